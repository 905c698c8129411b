package interceptors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// call is one activity attempt on its way through the chain.
type call struct {
	info   activity.Info
	in     *interceptor.ExecuteActivityInput
	env    envelope
	policy Policy
	res    Resources
	paced  *notifier.PacedPublisher // what the activity's own code publishes to; nil: no publisher

	began    time.Time // the attempt, by our clock
	details  *details
	held     time.Duration // before user code
	hushed   bool          // the last status that was told is not RUNNING
	outage   bool          // the attempt ends because Redis was away, or the lock held
	unwanted error         // how the server said that the attempt is not wanted, if it did when it was asked
	deadline time.Time     // of user code, by the host's limits
}

func (c *call) wantsConfig() bool {
	return c.policy.Config == On || (c.policy.Config == Default && c.env.Ref != nil)
}

// handler is the rest of the chain as a step sees it.
type handler func(ctx context.Context) (any, error)

// step is one link of the chain. It calls next at most once; but hold may do so
// again as long as user code was not entered.
type step func(ctx context.Context, c *call, next handler) (any, error)

// activityInbound is one activity attempt: the SDK makes one for each.
type activityInbound struct {
	interceptor.ActivityInboundInterceptorBase
	worker *workerInterceptor
	below  interceptor.ActivityOutboundInterceptor
	call   *call // nil until the attempt begins
}

// Init puts the outbound interceptor in front of what user code asks.
func (a *activityInbound) Init(outbound interceptor.ActivityOutboundInterceptor) error {
	a.below = outbound
	out := &activityOutbound{in: a}
	out.Next = outbound
	return a.Next.Init(out)
}

// ExecuteActivity resolves the policy and runs the chain within the limits of
// the host.
func (a *activityInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	c, err := a.worker.newCall(ctx, in)
	if err != nil {
		return nil, err
	}
	c.began, c.details = time.Now(), readDetails(ctx, a.below, c.info, c.mindsDetails(), c.env.Limits != nil)
	a.call = c
	res, release, closed := a.worker.host.Enter()
	if closed == nil {
		defer release() // behind the last words of the attempt
		c.res = res
	}
	result, err := a.worker.attempts(ctx, c, func(ctx context.Context) (any, error) { return a.attempt(ctx, c, closed) })
	if errors.As(err, new(*answeredError)) {
		return nil, activity.ErrResultPending // the server has its answer
	}
	return result, err
}

// mindsDetails tells whether heartbeats of ours may go beside the user's.
func (c *call) mindsDetails() bool {
	return !c.info.IsLocalActivity &&
		(c.env.Limits != nil || c.policy.Lock == On || c.policy.pauses(c.info.ActivityType.Name, c.env.Ref != nil))
}

// attempt runs the chain. closed is why there are no resources; nil: there are.
func (a *activityInbound) attempt(ctx context.Context, c *call, closed error) (any, error) {
	user := func(ctx context.Context) (any, error) {
		return a.worker.enter(ctx, c, func(ctx context.Context) (any, error) { return a.Next.ExecuteActivity(ctx, c.in) })
	}
	if closed != nil {
		if c.wantsConfig() || c.policy.Lock == On || c.policy.pauses(c.info.ActivityType.Name, c.env.Ref != nil) {
			c.outage = true
			return nil, notRunning(closed)
		}
		// Polled before the worker's stop and started after it: it loses its
		// events, not an attempt.
		return user(ctx)
	}
	res := c.res
	if err := c.checkNamespace(); err != nil {
		return nil, err
	}
	ctx = c.withSession(redisstate.NewContext(ctx, res.Store))
	if res.Publisher != nil {
		c.paced = notifier.Pace(res.Publisher, progressEvery)
		defer c.paced.Flush()
		ctx = notifier.NewContext(ctx, c.paced)
	}
	ctx = notifier.WithCall(ctx, notifier.Call{
		WorkflowID: a.worker.options.WorkflowID(c.info.WorkflowExecution.ID), TaskID: c.task(), Call: c.env.Call,
		Attempt: c.info.Attempt,
	})
	defer c.details.keepAlive(ctx, c.info)()

	run := user
	for _, link := range slices.Backward(a.worker.steps) {
		next := run
		run = func(ctx context.Context) (any, error) { return link(ctx, c, next) }
	}
	return run(ctx)
}

// progressEvery is how often the progress of one attempt is told.
const progressEvery = 100 * time.Millisecond

// sessionPrefix begins the types of the SDK's own session activities: they run
// for as long as their session, so a lock of theirs would keep out everyone.
const sessionPrefix = "internalSession"

// newCall reads the call's header and resolves its policy. It needs no Redis.
func (w *workerInterceptor) newCall(ctx context.Context, in *interceptor.ExecuteActivityInput) (*call, error) {
	info := activity.GetInfo(ctx)
	if strings.HasPrefix(info.ActivityType.Name, sessionPrefix) {
		return &call{info: info, in: in, policy: Policy{Config: Off, Lock: Off, Status: Off, Pause: Off}}, nil
	}
	env, err := readHeader(ctx)
	if err != nil {
		return nil, unusable(err)
	}
	if err := env.Policy.validate("the call"); err != nil {
		return nil, invalidPolicy(err)
	}
	return &call{info: info, in: in, env: env, policy: w.policies.of(info.ActivityType.Name, env.Policy)}, nil
}

// checkNamespace refuses activities of a Temporal namespace other than the one
// that the keys are named after: their configs, locks and events would mix.
func (c *call) checkNamespace() error {
	if c.res.TemporalNamespace == "" || c.info.Namespace == "" || c.res.TemporalNamespace == c.info.Namespace {
		return nil
	}
	return invalidPolicy(fmt.Errorf("the plugin's keys are those of Temporal namespace %q and the activity is of %q; "+
		"put the plugin on the worker's client, or set worker.Options.TemporalNamespace", c.res.TemporalNamespace, c.info.Namespace))
}

// chain lists the steps from outside in.
func (w *workerInterceptor) chain() []step {
	return []step{w.availability, w.status, w.hold, w.config, w.lock}
}
