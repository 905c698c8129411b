package interceptors

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// askEach is about how often the server is asked whether an attempt that holds is
// still wanted. A worker hears of a cancellation by the answers to its heartbeats
// only, and the SDK sends them no more often than every 30 s where the host set no
// heartbeat time-out: later than most holds end.
const askEach = 2 * time.Second

// lastWord bounds the last question, and the answer, of a hold that is over.
const lastWord = 2 * time.Second

// wanted asks, for as long as an attempt holds, whether it is still wanted.
type wanted struct {
	no   chan struct{} // closed when it is not
	why  error         // how the server said so; to be read after no is closed, or after end
	stop context.CancelFunc
	done chan struct{}
}

// ask begins to ask. A test environment has no server, and is asked nothing.
func (c *call) ask(ctx context.Context, jitter func() float64) *wanted {
	w := &wanted{no: make(chan struct{}), done: make(chan struct{})}
	ctx, w.stop = context.WithCancel(ctx)
	temporalClient := c.details.below.GetClient(ctx)
	if temporalClient == nil {
		close(w.done)
		return w
	}
	go func() {
		defer close(w.done)
		for {
			timer := time.NewTimer(time.Duration(float64(askEach) * (0.5 + jitter())))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			if err := c.details.tell(ctx, temporalClient, c.info); isUnwanted(err) {
				w.why = err
				close(w.no)
				return
			}
		}
	}()
	return w
}

// end ends the asking and waits for it.
func (w *wanted) end() {
	w.stop()
	<-w.done
}

// isUnwanted tells whether an answer to a heartbeat ends the attempt: its activity
// is cancelled, paused or reset, or is no more.
func isUnwanted(err error) bool {
	return temporal.IsCanceledError(err) || errors.Is(err, activity.ErrActivityPaused) || errors.Is(err, activity.ErrActivityReset) ||
		errors.As(err, new(*serviceerror.NotFound))
}

// tell sends a heartbeat past the SDK, which would keep it back.
func (d *details) tell(ctx context.Context, c client.Client, info activity.Info) error {
	d.mu.Lock()
	values := d.all()
	d.mu.Unlock()
	if d.foreign.Load() {
		return nil
	}
	o := client.RecordActivityHeartbeatOptions{
		TaskToken: info.TaskToken, Details: values, Namespace: info.Namespace, ActivityType: info.ActivityType.Name,
		WorkflowID: info.WorkflowExecution.ID, TaskQueue: info.TaskQueue,
	}
	if info.WorkflowType != nil {
		o.WorkflowType = info.WorkflowType.Name
	}
	return c.RecordActivityHeartbeatWithOptions(ctx, o)
}

// gaveUp is how an attempt ends whose hold is over: cancelled, if it is, and else by
// the outage.
func (h *holding) gaveUp(ctx context.Context, outage error) error {
	if cause := context.Cause(ctx); ctx.Err() != nil {
		if temporal.IsCanceledError(cause) {
			return cause
		}
		return outage
	}
	if h.wanted == nil {
		return outage
	}
	temporalClient := h.call.details.below.GetClient(ctx)
	if temporalClient == nil {
		return outage
	}
	bound := lastWord
	if deadline, ok := ctx.Deadline(); ok { // past it the server counts a time-out
		bound = min(bound, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	h.wanted.end()
	why := h.wanted.why
	// Or else a cancellation since then would end as a failure. A hold that was short
	// asked when it began.
	if why == nil && time.Since(h.began) > askEach/2 {
		why = h.call.details.tell(ctx, temporalClient, h.call.info)
	}
	// The SDK does not know of it, and would take a CanceledError for a failure.
	if temporal.IsCanceledError(why) && temporalClient.CompleteActivity(ctx, h.call.info.TaskToken, nil, why) == nil {
		return &answeredError{why}
	}
	return outage
}
