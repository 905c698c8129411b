package interceptors

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/notifier"
)

// workflowInbound publishes the transitions of one run. There is one per run,
// and Temporal runs its coroutines one at a time, so its fields need no mutex.
type workflowInbound struct {
	interceptor.WorkflowInboundInterceptorBase
	worker *workerInterceptor

	calls      int64            // activities scheduled so far, replayed ones included
	unobserved map[int64]*await // calls whose result the run has not yet seen
}

// await is a scheduled activity whose result will be published when seen.
type await struct {
	call   int64
	task   string
	typ    string
	future workflow.Future
}

// Init puts the outbound interceptor in front of the workflow's commands.
func (i *workflowInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	i.unobserved = make(map[int64]*await)
	out := &workflowOutbound{in: i}
	out.Next = outbound
	return i.Next.Init(out)
}

// ExecuteWorkflow publishes RUNNING before the workflow's code and how it ended
// after it.
func (i *workflowInbound) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	i.publish(ctx, notifier.Event{Status: notifier.StatusRunning})
	result, err := i.Next.ExecuteWorkflow(ctx, in)
	i.observeReady(ctx)
	if !workflow.IsContinueAsNewError(err) { // another run goes on, and says so itself
		state, reason := workflowStatus(err)
		i.publish(ctx, notifier.Event{Status: state, Reason: reason, Final: !goesOn(workflow.GetInfo(ctx), err)})
	}
	return result, err
}

// workflowStatus is Compozy's word for how a run ended. A time-out inside the
// workflow that it passes on ends it as failed; one of its own is told by the
// server only.
func workflowStatus(err error) (notifier.Status, string) {
	switch {
	case err == nil:
		return notifier.StatusSuccess, ""
	case temporal.IsCanceledError(err):
		return notifier.StatusCanceled, reasonOf(err)
	}
	return notifier.StatusFailed, reasonOf(err)
}

// goesOn tells whether Temporal starts another run after this one's end: a cron
// schedule does, and a retry policy after a failure that it covers; neither after a
// cancellation.
func goesOn(info *workflow.Info, err error) bool {
	if temporal.IsCanceledError(err) {
		return false
	}
	if info.CronSchedule != "" {
		return true
	}
	policy := info.RetryPolicy
	if err == nil || policy == nil ||
		(policy.MaximumAttempts > 0 && info.Attempt >= policy.MaximumAttempts) {
		return false
	}
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // the server looks at the outermost error only
		return !app.NonRetryable() && !slices.Contains(policy.NonRetryableErrorTypes, app.Type())
	}
	return true
}

// publish fills in the run and hands the event over, unless this is a replay.
func (i *workflowInbound) publish(ctx workflow.Context, ev notifier.Event) {
	if workflow.IsReplaying(ctx) {
		return
	}
	info := workflow.GetInfo(ctx)
	ev.Kind = notifier.KindStatus
	ev.WorkflowID = i.worker.options.WorkflowID(info.WorkflowExecution.ID)
	ev.RunID = info.WorkflowExecution.RunID
	p := i.worker.host.Publisher()
	if p == nil {
		return
	}
	if err := p.Publish(ev); err != nil {
		workflow.GetLogger(ctx).Warn("event not published", "family", "events", "error", err)
	}
}

// observe publishes what the run saw of a call, once.
func (i *workflowInbound) observe(ctx workflow.Context, a *await) {
	if _, pending := i.unobserved[a.call]; !pending {
		return
	}
	delete(i.unobserved, a.call)
	state, reason := observedStatus(a.future.Get(ctx, nil))
	i.publish(ctx, notifier.Event{
		TaskID: a.task, Call: a.call, ActivityType: a.typ,
		Status: state, Reason: reason, Final: true,
	})
}

// observeReady publishes the results that arrived together with the end of the
// workflow's code, in the order of their calls.
func (i *workflowInbound) observeReady(ctx workflow.Context) {
	for call := int64(1); call <= i.calls && len(i.unobserved) > 0; call++ {
		if a, ok := i.unobserved[call]; ok && a.future.IsReady() {
			i.observe(ctx, a)
		}
	}
}

func observedStatus(err error) (notifier.Status, string) {
	switch {
	case err == nil:
		return notifier.StatusSuccess, ""
	case temporal.IsCanceledError(err):
		return notifier.StatusCanceled, reasonOf(err)
	case temporal.IsTimeoutError(err) && !isApplication(err):
		return notifier.StatusTimedOut, reasonOf(err)
	}
	return notifier.StatusFailed, reasonOf(err)
}

// isApplication tells whether the activity ended by an error of its own: the
// outermost cause below the ActivityError decides, since a time-out carries the
// last failure before it as its own cause.
func isApplication(err error) bool {
	var outer *temporal.ActivityError
	if !errors.As(err, &outer) {
		return false
	}
	own, is := outer.Unwrap().(*temporal.ApplicationError) //nolint:errorlint // only the direct cause counts
	return is && own.Type() != TimedOut
}

type workflowOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	in *workflowInbound
}

// ExecuteActivity sends the call's config ref, task name, number and policy
// along in the header and publishes PENDING; the result is published when the
// run sees it. The Future is Temporal's own.
func (o *workflowOutbound) ExecuteActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	ctx, a, status := o.prepare(ctx, activityType, o.in.worker.shape)
	a.future = o.Next.ExecuteActivity(ctx, activityType, args...)
	if status {
		o.in.publish(ctx, notifier.Event{
			TaskID: a.task, Call: a.call, ActivityType: activityType, Status: notifier.StatusPending,
		})
		o.follow(ctx, a)
	}
	return a.future
}

// ExecuteLocalActivity is ExecuteActivity without PENDING: a local activity
// starts at once, in the worker that runs the workflow.
func (o *workflowOutbound) ExecuteLocalActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	ctx, a, status := o.prepare(ctx, activityType, nil)
	a.future = o.Next.ExecuteLocalActivity(ctx, activityType, args...)
	if status {
		o.follow(ctx, a)
	}
	return a.future
}

// shaper changes the options of a call, and notes in its envelope what they were.
type shaper func(ctx workflow.Context, activityType string, e *envelope, p Policy) workflow.Context

// prepare numbers the call, shapes its options, fills its header and tells
// whether its status is to be published.
func (o *workflowOutbound) prepare(ctx workflow.Context, activityType string, shape shaper) (_ workflow.Context, a *await, status bool) {
	o.in.calls++
	env := envelopeOf(ctx)
	env.Call = o.in.calls
	policy := o.in.worker.policies.of(activityType, env.Policy)
	if shape != nil {
		ctx = shape(ctx, activityType, &env, policy)
	}
	if err := setHeader(ctx, env); err != nil {
		workflow.GetLogger(ctx).Error("activity scheduled without the plugin's header", "error", err)
	}
	a = &await{call: env.Call, task: env.Task, typ: activityType}
	if a.task == "" {
		a.task = activityType
	}
	return ctx, a, policy.Status == On
}

// follow publishes the call's result when the run sees it. A coroutine of its
// own waits for it without touching the Future: it adds no command, so a replay
// does not notice it.
func (o *workflowOutbound) follow(ctx workflow.Context, a *await) {
	o.in.unobserved[a.call] = a
	workflow.GoNamed(ctx, fmt.Sprintf("temporal-redis-observe-%d", a.call), func(ctx workflow.Context) {
		_ = a.future.Get(ctx, nil) // the outcome is read in observe
		o.in.observe(ctx, a)
	})
}
