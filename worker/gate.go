package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/interceptors"
)

// gateJitter spreads the polls that waited at a gate, so that Redis does not
// meet all of them at once when it is back.
const gateJitter = 250 * time.Millisecond

// gate is the slot gate of one worker: closed while Redis is away. It has no
// goroutine; polls that come by notice a change and tell it.
type gate struct {
	taskQueue string
	log       *slog.Logger
	waiting   prometheus.Gauge
	source    func() interceptors.Availability // nil while nobody has asked Redis: open

	mu     sync.Mutex
	paused bool // what was told last
}

// closed returns nil if the gate is open, else what is closed at the next
// change.
func (g *gate) closed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	var changed <-chan struct{}
	if redis := g.source(); redis != nil {
		changed = redis.Changed() // before the question, so that no change falls between
		if redis.Available() {
			changed = nil
		}
	}
	if paused := changed != nil; paused != g.paused {
		g.paused = paused
		g.tell()
	}
	return changed
}

func (g *gate) tell() {
	if g.paused {
		g.log.Info("polling for activities pauses until Redis answers", "op", "gate", "task_queue", g.taskQueue)
		return
	}
	g.log.Info("polling for activities goes on: Redis answers again", "op", "gate", "task_queue", g.taskQueue)
}

// wait returns nil once the gate is open, with a jitter if it was not, and
// ctx's error if that ends first.
func (g *gate) wait(ctx context.Context) error {
	changed := g.closed()
	if changed == nil {
		return nil
	}
	g.waiting.Inc()
	defer g.waiting.Dec()
	for changed != nil {
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		if changed = g.closed(); changed != nil {
			continue
		}
		if err := spread(ctx); err != nil {
			return err
		}
		changed = g.closed()
	}
	return nil
}

// spread waits for a random part of gateJitter.
func spread(ctx context.Context) error {
	timer := time.NewTimer(rand.N(gateJitter))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
