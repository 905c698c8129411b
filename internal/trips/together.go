package trips

import (
	"runtime"
	"sync"
	"time"
)

// Together makes callers share one trip, for tests: it runs them at the same time and
// lets none go before all of them wait. Each does one item. It returns when all have
// returned.
func (t *Trips[T]) Together(callers ...func()) {
	t.mu.Lock()
	t.flying, t.patrol = t.AtOnce, time.NewTimer(0) // nobody goes before all wait
	t.mu.Unlock()
	var all sync.WaitGroup
	for _, call := range callers {
		all.Go(call)
	}
	for gathered := false; !gathered; {
		runtime.Gosched()
		t.mu.Lock()
		if gathered = len(t.waiting) == len(callers); gathered {
			t.patrol = nil
		}
		t.mu.Unlock()
	}
	for range t.AtOnce {
		t.land(nil)
	}
	all.Wait()
}
