package interceptors

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/notifier"
)

// status publishes the transitions of one attempt. What it says of the end is
// provisional (Final is false): Temporal may time the attempt out or try it
// again, and only the workflow knows what it saw; the workflow interceptor
// publishes that.
func (w *workerInterceptor) status(ctx context.Context, c *call, next handler) (any, error) {
	if c.policy.Status != On {
		return next(ctx)
	}
	if c.policy.Lock == On && !c.info.IsLocalActivity {
		w.publishAttempt(ctx, c, notifier.StatusWaiting, reasonLock)
	} else if c.hushed = w.holdsAtOnce(c); !c.hushed {
		w.publishAttempt(ctx, c, notifier.StatusRunning, "")
	}
	ended := false
	defer func() {
		if !ended { // the user's code panics; Temporal makes an error of it further out
			if c.paced != nil {
				c.paced.Flush()
			}
			w.publishAttempt(ctx, c, notifier.StatusFailed, reasonPanic)
		}
	}()
	result, err := next(ctx)
	ended = true
	if c.paced != nil {
		c.paced.Flush() // before the end, after which it says nothing
	}
	state, reason := attemptStatus(ctx, c, err)
	w.publishAttempt(ctx, c, state, reason)
	return result, err
}

// Reasons that are words of ours rather than an error's text.
const (
	reasonLock    = "lock"
	reasonPending = "result pending"
	reasonPanic   = "panic"
	reasonRedis   = "redis"
)

// attemptStatus is Compozy's word for how an attempt ended.
func attemptStatus(ctx context.Context, c *call, err error) (notifier.Status, string) {
	pauses := c.policy.Pause != Off
	app, decided := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case err == nil:
		return notifier.StatusSuccess, ""
	case errors.As(err, new(*temporal.TimeoutError)) && !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return notifier.StatusTimedOut, reasonOf(err)
	case errors.Is(err, activity.ErrResultPending):
		return notifier.StatusWaiting, reasonPending
	case decided:
		return notifier.StatusFailed, reasonOf(app)
	case pauses && c.stopped(ctx): // another worker goes on with it
		if c.policy.Lock == On {
			return notifier.StatusWaiting, reasonLock
		}
		return notifier.StatusPaused, reasonRedis
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return notifier.StatusTimedOut, reasonOf(err)
	case temporal.IsCanceledError(err), errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return notifier.StatusCanceled, reasonOf(err)
	case pauses && isOutage(err):
		return notifier.StatusPaused, reasonRedis
	case pauses && isContention(err):
		return notifier.StatusWaiting, reasonLock
	}
	return notifier.StatusFailed, reasonOf(err)
}

// publishAttempt publishes a status of the running attempt.
func (w *workerInterceptor) publishAttempt(ctx context.Context, c *call, s notifier.Status, reason string) {
	if c.policy.Status != On || c.info.WorkflowExecution.ID == "" {
		return
	}
	publish(ctx, &w.options, c.res.Publisher, notifier.Event{
		Kind:         notifier.KindStatus,
		WorkflowID:   w.options.WorkflowID(c.info.WorkflowExecution.ID),
		RunID:        c.info.WorkflowExecution.RunID,
		TaskID:       c.task(),
		Call:         c.env.Call,
		ActivityID:   c.info.ActivityID,
		ActivityType: c.info.ActivityType.Name,
		Attempt:      c.info.Attempt,
		Status:       s,
		Reason:       reason,
		Traceparent:  traceparent(ctx),
	})
}

// task is the name that the host gave the task, else the activity type.
func (c *call) task() string {
	if c.env.Task != "" {
		return c.env.Task
	}
	return c.info.ActivityType.Name
}
