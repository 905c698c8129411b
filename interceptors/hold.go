package interceptors

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// hold keeps an attempt in its slot while Redis is away and user code was not
// entered, for a short time: then an outage of seconds costs no attempt, and
// work goes on as soon as Redis answers. It goes through the steps inside it
// again when they find Redis away.
func (w *workerInterceptor) hold(ctx context.Context, c *call, next handler) (any, error) {
	if !w.mayHold(c) {
		return next(ctx)
	}
	h := &holding{worker: w, call: c}
	defer h.end(ctx)
	for {
		if c.away() && !h.wait(ctx, true) {
			return nil, h.gaveUp(ctx, fmt.Errorf("interceptors: hold: %w", redisstate.ErrUnavailable))
		}
		result, err := next(ctx)
		if !isOutage(err) || c.details.isEntered() {
			return result, err
		}
		if !h.wait(ctx, c.away()) {
			return nil, h.gaveUp(ctx, err)
		}
	}
}

// holdsAtOnce tells whether the attempt begins with a hold.
func (w *workerInterceptor) holdsAtOnce(c *call) bool { return w.mayHold(c) && c.away() }

func (w *workerInterceptor) mayHold(c *call) bool {
	return w.options.Pause.Hold == On && !c.info.IsLocalActivity && c.policy.pauses(c.info.ActivityType.Name, c.env.Ref != nil)
}

// health is what tells whether the call can have what it needs; nil: nobody knows.
func (c *call) health() Availability {
	if c.policy.Lock == On || c.policy.Pause == On {
		return c.res.LockHealth
	}
	return c.res.Health
}

// away tells whether the attempt would find Redis away: it needs no Redis for a
// config that the process has.
func (c *call) away() bool {
	health := c.health()
	if health == nil || health.Available() {
		return false
	}
	if c.policy.Lock == On || c.policy.Pause == On || c.env.Ref == nil {
		return true
	}
	near, ok := c.res.Store.(interface{ Near(redisstate.Key) bool })
	return !ok || !near.Near(c.env.Ref.Key())
}

// holding is the wait of one attempt.
type holding struct {
	worker *workerInterceptor
	call   *call
	began  time.Time     // of the present wait; zero: there is none
	until  time.Time     // when all waits together are over; zero: there was none
	again  time.Duration // before the next try where Redis is not known to be away
	wanted *wanted       // nil before it began
}

// Pauses before an attempt that holds tries again.
const (
	firstAgain = 100 * time.Millisecond
	lastAgain  = time.Second
	// spreadEach is over how long the attempts that hold are spread when Redis
	// answers, for each of them, and spreadMost for all.
	spreadEach = 2 * time.Millisecond
	spreadMost = 400 * time.Millisecond
)

// wait waits until another try is worth it. It is false when the hold is over.
func (h *holding) wait(ctx context.Context, away bool) bool {
	if !h.begin(ctx) {
		return false
	}
	over := time.NewTimer(time.Until(h.until))
	defer over.Stop()
	stopping := h.call.details.below.GetWorkerStopChannel(ctx)
	health := h.call.health()
	if !away {
		h.again = min(max(2*h.again, firstAgain), lastAgain)
		return h.sleep(ctx, over, stopping, h.spread(h.again)) && h.resume(ctx)
	}
	defer h.worker.noteAway()
	for {
		changed := health.Changed()
		if health.Available() {
			return h.sleep(ctx, over, stopping, h.spread(min(time.Duration(h.worker.holders.Load())*spreadEach, spreadMost))) && h.resume(ctx)
		}
		select {
		case <-changed:
		case <-over.C:
			return false
		case <-h.wanted.no:
			return false
		case <-stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// spread is a random part of d.
func (h *holding) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * h.worker.options.jitter())
}

func (h *holding) sleep(ctx context.Context, over *time.Timer, stopping <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-over.C:
	case <-h.wanted.no:
	case <-stopping:
	case <-ctx.Done():
	}
	return false
}

// begin takes one of the slots that may hold.
func (h *holding) begin(ctx context.Context) bool {
	w, now := h.worker, time.Now()
	if h.until.IsZero() {
		h.until = now.Add(w.options.Pause.HoldFor)
		if most := h.call.before(ctx); !most.IsZero() && most.Before(h.until) {
			h.until = most
		}
	}
	if !now.Before(h.until) || !takeOne(&w.holders, int64(w.options.Pause.HoldSlots)) {
		return false
	}
	h.began = now
	w.metrics.ActivitiesHolding.Inc()
	h.call.hushed = true
	w.publishAttempt(ctx, h.call, notifier.StatusPaused, reasonRedis)
	h.call.details.hold(ctx, h.call.info.Attempt, h.until)
	h.wanted = h.call.ask(ctx, w.options.jitter, func() {})
	return true
}

// resume ends a wait after which the attempt goes on.
func (h *holding) resume(ctx context.Context) bool {
	h.end(ctx)
	if h.call.policy.Lock == On {
		h.worker.publishAttempt(ctx, h.call, notifier.StatusWaiting, reasonLock)
	}
	return true
}

// end gives the slot back.
func (h *holding) end(ctx context.Context) {
	if h.began.IsZero() {
		return
	}
	h.wanted.end()
	took := time.Since(h.began)
	h.began = time.Time{}
	h.call.held += took
	h.worker.holders.Add(-1)
	h.worker.metrics.ActivitiesHolding.Dec()
	h.worker.metrics.ActivityPause.WithLabelValues(pauseHold).Add(took.Seconds())
	h.call.details.held(ctx, took)
}

// before is when the attempt has to be in user code, so that this has its time:
// shape gave the attempt that much more; else user code keeps half of what is
// left. Zero: there is no bound.
func (c *call) before(ctx context.Context) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}
	}
	if l := c.env.Limits; l != nil {
		user := l.StartToClose
		if user == 0 {
			user = l.ScheduleToClose
		}
		if more := c.info.StartToCloseTimeout - user - overrunSlack; user > 0 && more > 0 {
			return c.began.Add(more)
		}
	}
	return time.Now().Add(time.Until(deadline) / 2)
}

// takeOne adds one to n unless that makes more than limit.
func takeOne(n *atomic.Int64, limit int64) bool {
	if n.Add(1) <= limit {
		return true
	}
	n.Add(-1)
	return false
}

// Label values of Metrics.ActivityPause.
const (
	pauseHold  = "hold"
	pauseRetry = "retry"
)
