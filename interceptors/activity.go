package interceptors

import (
	"context"
	"slices"

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
}

func (c *call) wantsConfig() bool {
	return c.policy.Config == On || (c.policy.Config == Default && c.env.Ref != nil)
}

// handler is the rest of the chain as a step sees it.
type handler func(ctx context.Context) (any, error)

// step is one link of the chain. It calls next at most once.
type step func(ctx context.Context, c *call, next handler) (any, error)

type activityInbound struct {
	interceptor.ActivityInboundInterceptorBase
	worker *workerInterceptor
}

// ExecuteActivity takes the resources for the time of the attempt, resolves the
// policy and runs the chain.
func (a *activityInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	res, release, err := a.worker.host.Enter()
	if err != nil {
		return nil, notRunning(err)
	}
	defer release()

	info := activity.GetInfo(ctx)
	env, _, err := readHeader(ctx)
	if err != nil {
		return nil, unusable(err)
	}
	c := &call{
		info:   info,
		in:     in,
		env:    env,
		policy: a.worker.policies.of(info.ActivityType.Name, env.Policy),
		res:    res,
	}
	ctx = redisstate.NewContext(ctx, res.Store)
	ctx = notifier.NewContext(ctx, res.Publisher)
	ctx = notifier.WithCall(ctx, notifier.Call{
		WorkflowID: a.worker.options.WorkflowID(info.WorkflowExecution.ID), TaskID: c.task(), Call: env.Call,
	})

	run := func(ctx context.Context) (any, error) { return a.Next.ExecuteActivity(ctx, c.in) }
	for _, link := range slices.Backward(a.worker.steps) {
		next := run
		run = func(ctx context.Context) (any, error) { return link(ctx, c, next) }
	}
	return run(ctx)
}

// chain lists the steps from outside in.
func (w *workerInterceptor) chain() []step {
	return []step{w.availability, w.status, w.config, w.lock}
}
