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
	if w.options.Pause.Hold != On || c.info.IsLocalActivity || !c.policy.pauses(c.info.ActivityType.Name, c.env.Ref != nil) {
		return next(ctx)
	}
	h := &holding{worker: w, call: c}
	defer h.end(ctx)
	for {
		if c.away() && !h.wait(ctx, true) {
			return nil, fmt.Errorf("interceptors: hold: %w", redisstate.ErrUnavailable)
		}
		result, err := next(ctx)
		if !isOutage(err) || c.details.isEntered() || !h.wait(ctx, c.away()) {
			return result, err
		}
	}
}

// away tells whether the attempt would find Redis away: it needs no Redis for a
// config that the process has.
func (c *call) away() bool {
	if c.res.Health == nil || c.res.Health.Available() {
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
	began  time.Time // zero: not yet
	until  time.Time
	again  time.Duration // before the next try where Redis is not known to be away
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
	health := h.call.res.Health
	if !away {
		h.again = min(max(2*h.again, firstAgain), lastAgain)
		return h.sleep(ctx, over, stopping, h.spread(h.again))
	}
	for {
		changed := health.Changed()
		if health.Available() {
			return h.sleep(ctx, over, stopping, h.spread(min(time.Duration(h.worker.holders.Load())*spreadEach, spreadMost)))
		}
		select {
		case <-changed:
		case <-over.C:
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
	case <-stopping:
	case <-ctx.Done():
	}
	return false
}

// begin takes one of the slots that may hold.
func (h *holding) begin(ctx context.Context) bool {
	if !h.began.IsZero() {
		return time.Now().Before(h.until)
	}
	w := h.worker
	if !takeOne(&w.holders, int64(w.options.Pause.HoldSlots)) {
		return false
	}
	h.began = time.Now()
	h.until = h.began.Add(w.options.Pause.HoldFor)
	if deadline, ok := ctx.Deadline(); ok { // user code keeps half of what is left
		if half := h.began.Add(time.Until(deadline) / 2); half.Before(h.until) {
			h.until = half
		}
	}
	w.metrics.ActivitiesHolding.Inc()
	w.publishAttempt(ctx, h.call, notifier.StatusPaused, reasonRedis)
	h.call.details.holds(ctx, true)
	h.call.resumed = func() { h.end(ctx) }
	return true
}

// end gives the slot back, once: when user code is entered, or when the hold is
// over.
func (h *holding) end(ctx context.Context) {
	if h.began.IsZero() || h.call.resumed == nil {
		return
	}
	h.call.resumed = nil
	took := time.Since(h.began)
	h.call.held = took
	h.worker.holders.Add(-1)
	h.worker.metrics.ActivitiesHolding.Dec()
	h.worker.metrics.ActivityPause.WithLabelValues(pauseHold).Add(took.Seconds())
	h.call.details.holds(ctx, false)
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
