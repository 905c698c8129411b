package interceptors

import (
	"context"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/notifier"
)

// enter is the innermost step: from here on the attempt is the user's, and so
// are its heartbeats. The host's time-outs begin here, not when the attempt
// began to wait for Redis or a lock.
func (w *workerInterceptor) enter(ctx context.Context, c *call, next handler) (any, error) {
	if c.hushed && c.policy.Lock != On { // the lock step says so itself
		w.publishAttempt(ctx, c, notifier.StatusRunning, "")
	}
	c.details.enter(ctx, c.info, time.Since(c.began))
	at, kind := c.timeout()
	if at.IsZero() {
		return next(ctx)
	}
	c.deadline = at
	ctx, cancel := context.WithDeadline(ctx, at)
	defer cancel()
	o := &overrun{call: c, err: c.timedOut(kind), done: make(chan struct{})}
	timer := time.AfterFunc(plus(time.Until(at), overrunGrace), func() { o.answer(context.WithoutCancel(ctx)) })
	defer timer.Stop()
	result, err := next(ctx)
	return o.settle(result, err, at)
}

// timeout is when the attempt has to end by the host's limits, and which of them
// says so.
func (c *call) timeout() (at time.Time, kind enumspb.TimeoutType) {
	l := c.env.Limits
	if l == nil || c.info.IsLocalActivity {
		return time.Time{}, 0
	}
	if l.StartToClose > 0 {
		at, kind = time.Now().Add(l.StartToClose), enumspb.TIMEOUT_TYPE_START_TO_CLOSE
	}
	end, bounded := c.end()
	if !bounded {
		return at, kind
	}
	left := end.Sub(c.now())
	if left <= 0 && !at.IsZero() {
		return at, kind // a first attempt that the queue kept waiting
	}
	if left <= 0 {
		left = l.ScheduleToClose
	}
	if whole := time.Now().Add(left); at.IsZero() || whole.Before(at) {
		return whole, enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
	}
	return at, kind
}

// timedOut is the server's error of a time-out, wrapped in an ApplicationError:
// the server takes nothing else from a worker. errors.As finds it.
func timedOut(kind enumspb.TimeoutType, last error, o temporal.ApplicationErrorOptions) error {
	convert := temporal.GetDefaultFailureConverter()
	o.Cause = convert.FailureToError(&failurepb.Failure{
		Source:  "GoSDK",
		Message: "activity " + kind.String() + " timeout", // as the server says it
		Cause:   convert.ErrorToFailure(last),
		FailureInfo: &failurepb.Failure_TimeoutFailureInfo{
			TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: kind},
		},
	})
	return temporal.NewApplicationErrorWithOptions("the activity's time is over", TimedOut, o)
}

// timedOut is the error of this attempt.
func (c *call) timedOut(kind enumspb.TimeoutType) error {
	if kind != enumspb.TIMEOUT_TYPE_START_TO_CLOSE || c.env.Limits.TimeoutEnds {
		return timedOut(kind, nil, temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	return timedOut(kind, nil, temporal.ApplicationErrorOptions{NextRetryDelay: c.env.Limits.intervalAfter(c.attempt())})
}

// overrunGrace is what user code has to return after its time is over before the
// server is told without it.
const overrunGrace = 250 * time.Millisecond

// overrunSlack is by how much the server's time-out of an attempt comes later yet,
// so that it hears of ours first: the grace, and the way there.
const overrunSlack = overrunGrace + 750*time.Millisecond

// overrun tells the server that an attempt has timed out while its code still
// runs, as the server itself would: it waits longer than the host said.
type overrun struct {
	call *call
	err  error

	mu       sync.Mutex
	returned bool
	begun    bool
	answered bool
	done     chan struct{}
}

// answerTimeout bounds the answer.
const answerTimeout = 10 * time.Second

func (o *overrun) answer(ctx context.Context) {
	o.mu.Lock()
	if o.returned {
		o.mu.Unlock()
		return
	}
	o.begun = true
	o.mu.Unlock()
	defer close(o.done)
	temporalClient := o.call.server(ctx)
	if temporalClient == nil {
		return // a test environment: the code's return has to do
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := o.err
	if o.call.isLast() && !isFinal(err) {
		if o.call.pausedUnheard(ctx) {
			o.call.uncounted(ctx, true)
		} else {
			err = rebuilt(err, temporal.ApplicationErrorOptions{NonRetryable: true})
		}
	}
	o.answered = temporalClient.CompleteActivity(ctx, o.call.info.TaskToken, nil, err) == nil
}

// settle is how the attempt ended, given what its code returned.
func (o *overrun) settle(result any, err error, at time.Time) (any, error) {
	o.mu.Lock()
	o.returned = true
	begun := o.begun
	o.mu.Unlock()
	if begun {
		<-o.done
		if o.answered {
			return nil, &answeredError{o.err}
		}
	}
	if time.Now().Before(at) {
		return result, err
	}
	return nil, o.err // the server would have taken no result by now
}

// answeredError says that the server has its answer already.
type answeredError struct{ err error }

func (e *answeredError) Error() string { return fmt.Sprintf("answered: %v", e.err) }

// Unwrap is what was told: a time-out or a cancellation.
func (e *answeredError) Unwrap() error { return e.err }
