package locking

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// lanes keep what a process asks one master about one lock in order: who does not
// wait for all masters goes on while the last of them is still being asked, and
// would else be overtaken by what it does next.
type lanes struct {
	mu   sync.Mutex
	last map[string]*place
}

// place is a place in a lane.
type place struct {
	lanes *lanes
	key   string
	ahead <-chan struct{} // nil: nobody
	done  chan struct{}
}

// enter takes the place behind all others.
func (l *lanes) enter(key string) *place {
	p := &place{lanes: l, key: key, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = make(map[string]*place)
	}
	if before := l.last[key]; before != nil {
		p.ahead = before.done
	}
	l.last[key] = p
	return p
}

// wait returns when all ahead left. Each has a deadline.
func (p *place) wait() {
	if p.ahead != nil {
		<-p.ahead
	}
}

func (p *place) leave() {
	p.lanes.mu.Lock()
	defer p.lanes.mu.Unlock()
	if p.lanes.last[p.key] == p {
		delete(p.lanes.last, p.key)
	}
	close(p.done)
}

// rest is how a master is left alone that does not answer: else each lease would
// wait for it, with a connection, in the background. One call per restFor asks
// whether it is back.
type rest struct {
	began time.Time
	until atomic.Int64 // since began; 0: it answers
}

const restFor = time.Second

// errResting says that a master was not asked.
var errResting = wrap("locking: ask the masters", fmt.Errorf("it did not answer a moment ago: %w", context.DeadlineExceeded))

// now tells whether not to ask. Of those to whom it says no while the master is
// away, only one asks.
func (r *rest) now() bool {
	until := r.until.Load()
	if until == 0 {
		return false
	}
	now := time.Since(r.began)
	return now < time.Duration(until) || !r.until.CompareAndSwap(until, int64(now+restFor))
}

// seen is to be had before a master is asked, and given to unasked if it is not.
func (r *rest) seen() int64 { return r.until.Load() }

// unasked lets another ask in place of a call that now let through and that had nothing
// to ask: or a master to which every second such a call comes would never be back.
func (r *rest) unasked(seen int64) {
	if seen != 0 {
		r.until.CompareAndSwap(seen, int64(time.Since(r.began)))
	}
}

// note takes note of an answer.
func (r *rest) note(err error) {
	switch {
	case err != nil && classOf(err) == rediserr.Unavailable:
		r.until.Store(int64(time.Since(r.began) + restFor))
	case r.until.Load() != 0:
		r.until.Store(0)
	}
}
