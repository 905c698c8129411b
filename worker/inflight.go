package worker

import (
	"context"
	"sync"
	"time"
)

// inflight counts running activities and tells when there are none. The zero
// value is ready. Unlike a sync.WaitGroup it may be waited for with a bound and
// used again while someone waits.
type inflight struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; nil when nobody waits
}

func (f *inflight) begin() {
	f.mu.Lock()
	f.n++
	f.mu.Unlock()
}

func (f *inflight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if f.n == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

func (f *inflight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// whenIdle returns a channel that is closed once the count is 0.
func (f *inflight) whenIdle() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	return f.idle
}

// wait reports whether the count reached 0 within limit and before ctx ended.
func (f *inflight) wait(ctx context.Context, limit time.Duration) bool {
	idle := f.whenIdle()
	select {
	case <-idle:
		return true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}
