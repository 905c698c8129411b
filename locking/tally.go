package locking

import (
	"context"
	"sync"
)

// tally counts the answers of a round where they arrive, so that who waits for enough
// of them is woken once.
type tally struct {
	mu     sync.Mutex
	heard  func(i int, err error) (enough bool)
	silent []bool // masters that did not answer yet
	open   int    // how many
	over   bool   // heard is told no more
	enough chan struct{}
}

func newTally(masters int, heard func(int, error) bool) *tally {
	t := &tally{heard: heard, silent: make([]bool, masters), open: masters, enough: make(chan struct{})}
	for i := range t.silent {
		t.silent[i] = true
	}
	return t
}

// count takes the answer of one master.
func (t *tally) count(i int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.silent[i] = false
	t.open--
	if t.heard(i, err) || t.open == 0 {
		t.over = true
		close(t.enough)
	}
}

// wait returns when there are enough answers, or when ctx ends: masters that did not
// answer by then are told as an outage.
func (t *tally) wait(ctx context.Context) {
	select {
	case <-t.enough:
		return
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, is := range t.silent {
		if t.over {
			return
		}
		t.over = is && t.heard(i, contextError(ctx))
	}
	t.over = true
}
