package interceptors

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
)

// attempts is around all steps: it holds the limits that the host gave the
// activity. The server knows wider ones (see shape), so it goes on trying until
// this says that it is enough.
func (w *workerInterceptor) attempts(ctx context.Context, c *call, next handler) (result any, err error) {
	if c.env.Limits == nil || c.info.IsLocalActivity {
		return next(ctx)
	}
	c.excuseGate(ctx)
	if err := c.exhausted(ctx); err != nil {
		return nil, err
	}
	if c.isLast() {
		defer func() {
			if p := recover(); p != nil { // the SDK would have it tried again
				if c.pausedUnheard(ctx) {
					c.uncounted(ctx, false)
					panic(p)
				}
				w.options.Logger.ErrorContext(ctx, "activity panicked in its last attempt", "op", "activity",
					"activity_type", c.info.ActivityType.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				result, err = nil, temporal.NewNonRetryableApplicationError(fmt.Sprint(p), panicType, nil)
			}
		}()
	}
	returned := false
	defer func() {
		if !returned { // it panics: the SDK will have it tried again
			c.keepPauses(ctx)
		}
	}()
	result, err = next(ctx)
	returned = true
	switch {
	case err == nil, errors.Is(err, activity.ErrResultPending), errors.As(err, new(*answeredError)):
		return result, err
	case !c.outage && c.stopped(ctx):
		c.outage, err = true, notRunning(err)
	}
	counted := err
	none := c.outage && !c.isUsers() || c.interrupted(ctx)
	if !none {
		if counted = c.counted(ctx, err); isFinal(counted) && !isFinal(err) {
			none = c.pausedUnheard(ctx)
		}
	}
	if none {
		c.uncounted(ctx, ctx.Err() != nil)
		return nil, err
	}
	if !isFinal(counted) {
		c.keepPauses(ctx)
	}
	return nil, counted
}

// isFinal tells whether the server tries no more after err.
func isFinal(err error) bool {
	app, ok := err.(*temporal.ApplicationError) //nolint:errorlint // Temporal looks at the outermost error only
	return ok && app.NonRetryable()
}

// uncounted leaves to the next attempt that this one was none of the user's.
func (c *call) uncounted(ctx context.Context, atOnce bool) {
	c.details.leave(ctx, c.server(ctx), c.info, atOnce, func(r *record) {
		r.Outages++
		r.Paused = plus(r.Paused, max(time.Since(c.began)-c.held, 0))
		r.Attempt, r.Ended = c.info.Attempt, c.now().UnixNano()
	})
}

// isUsers tells whether the attempt is one of the user's: its code was entered. Code of
// this module may be run again.
func (c *call) isUsers() bool { return c.details.isEntered() && !isOwn(c.info.ActivityType.Name) }

// stopped tells whether the attempt ends because its worker stops, before it was one of
// the user's: it waited for a lock, or read its config.
func (c *call) stopped(ctx context.Context) bool {
	if c.isUsers() || ctx.Err() == nil || temporal.IsCanceledError(context.Cause(ctx)) {
		return false
	}
	select {
	case <-c.details.below.GetWorkerStopChannel(ctx):
		return true
	default:
		return false
	}
}

// keepPauses leaves to the next attempt what the host's schedule-to-close time-out is
// not to count.
func (c *call) keepPauses(ctx context.Context) {
	if _, bounded := c.end(); bounded && c.details.paused() > 0 && !c.details.carried() {
		c.details.leave(ctx, c.server(ctx), c.info, ctx.Err() != nil, func(*record) {})
	}
}

// interrupted tells whether an operator paused or reset the activity, which plain
// Temporal does not count against the retry policy.
func (c *call) interrupted(ctx context.Context) bool {
	for _, why := range []error{context.Cause(ctx), c.unwanted} {
		if errors.Is(why, activity.ErrActivityPaused) || errors.Is(why, activity.ErrActivityReset) {
			return true
		}
	}
	return false
}

// panicType is the type under which the SDK tells a panic.
const panicType = "PanicError"

// attempt is the number of the user's attempt, from 1.
func (c *call) attempt() int32 { return max(c.info.Attempt-c.details.outages, 1) }

// isLast tells whether the host allows no attempt after this one.
func (c *call) isLast() bool {
	l := c.env.Limits
	return l != nil && l.Attempts > 0 && c.attempt() >= l.Attempts
}

// now is the server's time, by which it said when the activity was scheduled.
func (c *call) now() time.Time { return c.info.StartedTime.Add(time.Since(c.began)) }

// end is when the host's schedule-to-close time-out comes, without the pauses.
func (c *call) end() (at time.Time, bounded bool) {
	l := c.env.Limits
	if l == nil || l.ScheduleToClose <= 0 || c.info.ScheduledTime.IsZero() {
		return time.Time{}, false
	}
	return c.info.ScheduledTime.Add(plus(l.ScheduleToClose, c.details.paused())), true
}

// excuseGate takes for a pause what this attempt waited because its worker took none while
// Redis was away. If the one before was of the user's, no record says when that ended, so
// the server is asked.
func (c *call) excuseGate(ctx context.Context) {
	if _, bounded := c.end(); !bounded || c.res.GatedFor == nil || c.info.Attempt == 1 || c.details.waitCounted {
		return
	}
	ours := func(theirs time.Time) time.Time { return c.began.Add(-c.info.StartedTime.Sub(theirs)) }
	if c.res.GatedFor(c.info.TaskQueue, ours(c.info.ScheduledTime)) == 0 {
		return
	}
	bound, cancel := context.WithTimeout(ctx, lastWord)
	defer cancel()
	if ended := c.described(bound).GetLastAttemptCompleteTime(); ended.IsValid() {
		c.details.excuse(ctx, c.res.GatedFor(c.info.TaskQueue, ours(ended.AsTime())))
		return
	}
	// It does not say: then at least what passed at the gate in all.
	c.details.excuse(ctx, c.res.GatedFor(c.info.TaskQueue, ours(c.info.ScheduledTime))-c.details.paused())
}

// exhausted refuses an attempt past the host's limits, which the attempt before
// could not refuse: its worker died, or it heartbeat too late.
func (c *call) exhausted(ctx context.Context) error {
	if l := c.env.Limits; l.Attempts > 0 && c.attempt() > l.Attempts {
		last := c.lastFailure(ctx)
		if last == nil {
			last = errors.New("the last attempt ended without a word of it")
		}
		return rebuilt(last, temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	if end, bounded := c.end(); bounded && c.attempt() > 1 && !c.now().Before(end) {
		return timedOut(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, c.lastFailure(ctx), temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	return nil
}

// lastFailure asks the server how the attempt before this one ended; nil if it
// does not say.
func (c *call) lastFailure(ctx context.Context) error {
	if last := c.described(ctx).GetLastFailure(); last != nil {
		return temporal.GetDefaultFailureConverter().FailureToError(last)
	}
	return nil
}

// described is what the server knows of the activity; nil if it does not say: the host's
// limits hold without it.
func (c *call) described(ctx context.Context) *workflowpb.PendingActivityInfo {
	temporalClient := c.server(ctx)
	if temporalClient == nil {
		return nil
	}
	run := c.info.WorkflowExecution
	described, err := temporalClient.DescribeWorkflowExecution(ctx, run.ID, run.RunID)
	if err != nil {
		return nil
	}
	for _, a := range described.GetPendingActivities() {
		if a.GetActivityId() == c.info.ActivityID {
			return a
		}
	}
	return nil
}

// pausedUnheard tells whether an operator paused the activity and this attempt did not
// hear of it: plain Temporal asks for that before it asks for the limits.
func (c *call) pausedUnheard(ctx context.Context) bool {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	if !c.described(own).GetPaused() {
		return false
	}
	c.unwanted = activity.ErrActivityPaused
	return true
}

// counted is the error of a user attempt as it goes to the server: not retryable
// once the host's limits are used up, and after the host's own interval, which
// the server would count from all attempts.
func (c *call) counted(ctx context.Context, err error) error {
	if ctx.Err() != nil && temporal.IsCanceledError(context.Cause(ctx)) {
		return err // the server takes it as it is
	}
	app, isApp := err.(*temporal.ApplicationError) //nolint:errorlint // Temporal looks at the outermost error only
	switch {
	case isApp && app.NonRetryable():
		return err
	case c.isLast():
		return rebuilt(err, temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	delay := delayOf(err)
	asked := delay > 0
	if !asked {
		delay = c.env.Limits.intervalAfter(c.attempt())
	}
	if end, bounded := c.end(); bounded && c.now().Add(delay).After(end) {
		return rebuilt(err, temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	if asked || c.details.outages == 0 {
		return err
	}
	return rebuilt(err, temporal.ApplicationErrorOptions{NextRetryDelay: delay})
}

// delayOf is the delay that an error asks for before the next attempt.
func delayOf(err error) time.Duration {
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // Temporal looks at the outermost error only
		return app.NextRetryDelay()
	}
	return 0
}

// rebuilt is err as Temporal would record it, with the retrying of o.
func rebuilt(err error, o temporal.ApplicationErrorOptions) error {
	switch e := err.(type) { //nolint:errorlint // Temporal looks at the outermost error only
	case *temporal.ApplicationError:
		o.Cause, o.Details, o.Category = e.Unwrap(), valuesOf(e), e.Category()
		if o.NextRetryDelay == 0 {
			o.NextRetryDelay = e.NextRetryDelay()
		}
		return temporal.NewApplicationErrorWithOptions(e.Message(), e.Type(), o)
	case *temporal.PanicError:
		return temporal.NewApplicationErrorWithOptions(e.Error(), panicType, o)
	case *temporal.TimeoutError, *temporal.TerminatedError, *temporal.ServerError, *temporal.CanceledError,
		*temporal.ActivityError, *temporal.ChildWorkflowExecutionError, *temporal.NexusOperationError:
		o.Cause = err // an ApplicationError cannot be one, but is found to wrap it
	default:
		o.Cause = errors.Unwrap(err)
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), typeOf(err), o)
}

// typeOf is the type under which the SDK records an error that is not its own.
func typeOf(err error) string {
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if name := t.Name(); name != "errorString" {
		return name
	}
	return "" // that of errors.New, which the SDK leaves out
}

// valuesOf are the details of an error, undecoded where they came from a server.
// The SDK panics when asked for one that is nil: then there are none.
func valuesOf(e *temporal.ApplicationError) (values []any) {
	if !e.HasDetails() {
		return nil
	}
	defer func() {
		if recover() != nil {
			values = nil
		}
	}()
	local, targets := make([]any, maxDetails), make([]any, maxDetails)
	for n := maxDetails; n > 0; n-- { // local values tell that there are fewer
		for i := range targets {
			targets[i] = &local[i]
		}
		if err := e.Details(targets[:n]...); err == nil && n < maxDetails {
			return local[:n]
		} else if err == nil {
			break
		}
	}
	raw := make([]converter.RawValue, maxDetails)
	for i := range raw {
		targets[i] = &raw[i]
	}
	if e.Details(targets...) != nil {
		return nil
	}
	for _, r := range raw {
		if r.Payload() == nil {
			break
		}
		values = append(values, r)
	}
	return values
}

// asUsual makes the activity's own view of itself what it were without us.
func (c *call) asUsual(info *activity.Info) {
	l := c.env.Limits
	if l == nil || info.IsLocalActivity {
		return
	}
	info.Attempt = c.attempt()
	info.StartToCloseTimeout = l.StartToClose
	info.ScheduleToCloseTimeout = l.ScheduleToClose
	if info.StartToCloseTimeout == 0 {
		info.StartToCloseTimeout = l.ScheduleToClose // as the server fills it in
	}
	if info.RetryPolicy != nil {
		policy := *info.RetryPolicy
		policy.MaximumAttempts = l.Attempts
		info.RetryPolicy = &policy
	}
	if at := c.deadline; !at.IsZero() && (info.Deadline.IsZero() || at.Before(info.Deadline)) {
		info.Deadline = at
	}
}
