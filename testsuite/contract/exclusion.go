package contract

import (
	"errors"
	"fmt"
	"sync"
)

// Exclusion watches one critical section from inside: who is in it at the same
// time, and whether fences rise from one visitor to the next. The zero value is
// ready. It is safe for concurrent use.
type Exclusion struct {
	mu      sync.Mutex
	inside  int
	visits  int
	fence   uint64
	problem error
}

// Enter notes that a holder with the given fence begins its critical section.
func (e *Exclusion) Enter(fence uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.visits++
	e.inside++
	if e.inside > 1 {
		e.note(fmt.Errorf("visit %d, with fence %d: %d holders at the same time", e.visits, fence, e.inside))
	}
	if fence <= e.fence {
		e.note(fmt.Errorf("visit %d: fence %d after fence %d", e.visits, fence, e.fence))
	}
	e.fence = max(e.fence, fence)
}

// Leave notes the end of the section that Enter began.
func (e *Exclusion) Leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inside--
}

// Visits is the number of Enter calls.
func (e *Exclusion) Visits() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.visits
}

// Err tells the first things that went wrong, nil if nothing did.
func (e *Exclusion) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.problem
}

func (e *Exclusion) note(err error) {
	if e.problem == nil {
		e.problem = errors.New("not exclusive")
	}
	if e.visits < 100 { // enough to see what happens
		e.problem = fmt.Errorf("%w; %w", e.problem, err)
	}
}
