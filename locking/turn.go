package locking

import (
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// yieldFor is how long a releaser that woke a waiter lets others go first when
	// it wants the same resource again.
	yieldFor = 50 * time.Millisecond
	// owedFor is how long a releaser remembers that it heard of a waiter when it had
	// asked for the same resource again already.
	owedFor = time.Minute
	// owedSwept is how often what is older is thrown away.
	owedSwept = time.Second
)

// turns lines up the acquisitions of one process, so that of those who want the
// same resource only the first asks Redis, and they get it in the order in which
// they came.
type turns struct {
	mu    sync.Mutex
	lines map[string][]*turn
	debts map[string]debt
	swept time.Time
}

// debt is what a process owes to those who waited when it released a resource.
type debt struct {
	since time.Time
	back  time.Duration // they are not woken: how long they may take to look
}

// turn is a place in line.
type turn struct {
	turns    *turns
	resource string
	first    chan struct{} // closed when it is the first in line
}

func newTurns() *turns {
	return &turns{lines: make(map[string][]*turn), debts: make(map[string]debt)}
}

// join goes to the end of the line. With unlessBusy it reports false instead if
// anybody is there.
func (t *turns) join(resource string, unlessBusy bool) (*turn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.lines[resource]
	if unlessBusy && len(line) > 0 {
		return nil, false
	}
	place := &turn{turns: t, resource: resource, first: make(chan struct{})}
	if len(line) == 0 {
		close(place.first)
	}
	t.lines[resource] = append(line, place)
	return place, true
}

// leave gives the place up, from wherever it is.
func (p *turn) leave() {
	t := p.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.lines[p.resource]
	i := slices.Index(line, p)
	if i < 0 {
		return
	}
	if i == 0 && len(line) > 1 {
		close(line[1].first)
	}
	if len(line) == 1 {
		delete(t.lines, p.resource)
		return
	}
	t.lines[p.resource] = slices.Delete(line, i, i+1)
}

// yield notes that this process released resource while others waited.
// back is for how long those may go first who are not woken; 0: they are.
func (t *turns) yield(resource string, back time.Duration) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.swept) >= owedSwept {
		maps.DeleteFunc(t.debts, func(_ string, d debt) bool { return now.Sub(d.since) > owedFor })
		t.swept = now
	}
	t.debts[resource] = debt{since: now, back: back}
}

// mustYield tells whether others were waiting a moment ago, and back as it was given to
// yield. It is asked once.
func (t *turns) mustYield(resource string) (yield bool, back time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.debts[resource]
	delete(t.debts, resource)
	return ok && time.Since(d.since) < yieldFor, d.back
}

// owes tells whether others were waiting at a release of this process that came before
// the lease which it has now, although it heard of them only afterwards. It is asked once.
func (t *turns) owes(resource string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.debts[resource]
	delete(t.debts, resource)
	return ok
}
