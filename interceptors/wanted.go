package interceptors

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// askEach is about how often the server is asked whether an attempt that holds, or
// waits for a lock, is still wanted; past twice that, it is half of the wait so far. A
// worker hears of a cancellation by the answers to its heartbeats only, and the SDK sends them no more often than every 30 s where the host set no
// heartbeat time-out: later than most waits end.
const askEach = 2 * time.Second

// lastWord bounds the last question, and the answer, of a wait that is over.
const lastWord = 2 * time.Second

// wanted asks, for as long as an attempt waits, whether it is still wanted.
type wanted struct {
	no   chan struct{} // closed when it is not
	why  error         // how the server said so; to be read after no is closed, or after end
	stop context.CancelFunc
	done chan struct{}
}

// server is where to ask about an attempt; nil in a test environment, whose client ends
// the process at any call. Its task tokens end with the ids of the activities, where a
// server's are binary.
func (c *call) server(ctx context.Context) client.Client {
	if strings.HasSuffix(string(c.info.TaskToken), "#"+c.info.ActivityID) || string(c.info.TaskToken) == c.info.ActivityID {
		return nil
	}
	return c.details.below.GetClient(ctx)
}

// ask begins to ask. Who hears that the attempt is not wanted calls unwanted, then
// closes no.
func (c *call) ask(ctx context.Context, jitter func() float64, unwanted func()) *wanted {
	w := &wanted{no: make(chan struct{}), done: make(chan struct{})}
	ctx, w.stop = context.WithCancel(ctx)
	temporalClient := c.server(ctx)
	if temporalClient == nil {
		close(w.done)
		return w
	}
	began := time.Now()
	go func() {
		defer close(w.done)
		for {
			each := max(askEach, time.Since(began)/2)
			timer := time.NewTimer(time.Duration(float64(each) * (0.5 + jitter())))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			if err := c.details.tell(ctx, temporalClient, c.info); isUnwanted(err) {
				w.why = err
				unwanted()
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

// tell sends a heartbeat past the SDK, which would keep it back. It sends none where the
// data converter refuses raw values, see send.
func (d *details) tell(ctx context.Context, c client.Client, info activity.Info) error {
	defer func() {
		if recover() != nil {
			d.foreign.Store(true)
		}
	}()
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
	h.wanted.end()
	h.call.unwanted = h.wanted.why
	// A hold that was short asked when it began.
	return h.call.answer(ctx, outage, h.wanted.why, time.Since(h.began) > askEach/2)
}

// unlessUnwanted is how an attempt ends that waited for something else than Redis:
// cancelled, if it is, and else by err.
func (c *call) unlessUnwanted(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case temporal.IsCanceledError(cause):
		return cause
	case ctx.Err() != nil, c.info.IsLocalActivity:
		return err
	}
	return c.answer(ctx, err, nil, true)
}

// answer tells the server that an attempt is cancelled, if that is why, or if the server
// says so when it is asked: else a cancellation would end as a failure.
func (c *call) answer(ctx context.Context, otherwise, why error, ask bool) error {
	if temporalClient := c.server(ctx); temporalClient != nil {
		return c.answerTo(ctx, temporalClient, otherwise, why, ask)
	}
	return otherwise
}

func (c *call) answerTo(ctx context.Context, temporalClient client.Client, otherwise, why error, ask bool) error {
	bound := lastWord
	if deadline, ok := ctx.Deadline(); ok { // past it the server counts a time-out
		bound = min(bound, time.Until(deadline)/2)
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound) // a cancellation that arrives must not stop its answer
	defer cancel()
	if why == nil && ask {
		why = c.details.tell(own, temporalClient, c.info)
	}
	// The SDK does not know of it, and would take a CanceledError for a failure.
	if temporal.IsCanceledError(why) && temporalClient.CompleteActivity(own, c.info.TaskToken, nil, why) == nil {
		return &answeredError{why}
	}
	if cause := context.Cause(ctx); temporal.IsCanceledError(cause) { // it does by now
		return cause
	}
	return otherwise
}
