package redisstate

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// away bounds what a read of a cached state waits for Redis, and remembers that
// it waited in vain: a server that answers nothing would else cost each read that
// wait. The state is in the database, which is asked instead.
type away struct {
	began time.Time
	wait  time.Duration
	since atomic.Int64 // since when nothing was answered, from began; 0: the last one was
	until atomic.Int64 // until when Redis is not asked, from began; 0: it is
}

const (
	// cacheWait is how long a read waits for Redis, unless that is more than half of
	// the time that its caller has.
	cacheWait = 250 * time.Millisecond
	// awayFor is how long Redis is not asked after it did not answer.
	awayFor = time.Second
)

// errAway says that Redis was not asked.
var errAway = errors.New("no answer from Redis a moment ago")

// ask calls do, which asks Redis, with a context that leaves the caller time for
// something else. That one impatient caller got no answer says little; that nobody
// got one for as long as others wait says that Redis is away.
func (a *away) ask(ctx context.Context, do func(context.Context) error) error {
	asked := a.now()
	if until := a.until.Load(); until != 0 {
		// One of those who come later finds out whether it is back.
		if asked < time.Duration(until) || !a.until.CompareAndSwap(until, int64(asked+a.wait)) {
			return errAway
		}
	}
	wait := a.wait
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/2)
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := do(bounded)
	// A connection ends at the deadline too, and may be first to say so.
	end, _ := bounded.Deadline()
	ranOut := bounded.Err() != nil || (err != nil && !time.Now().Before(end))
	switch {
	case ctx.Err() == nil && nobodyThere(err):
		a.until.Store(int64(a.now() + awayFor))
	case ranOut && ctx.Err() == nil:
		a.since.CompareAndSwap(0, int64(asked))
		if since, now := a.since.Load(), a.now(); since != 0 && now-time.Duration(since) >= a.wait {
			a.until.Store(int64(now + awayFor))
		}
	case err == nil || !ranOut: // whatever it said, it answered, or refused
		a.since.Store(0)
		a.until.Store(0)
	}
	return err
}

// nobodyThere tells whether no connection could be made.
func nobodyThere(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "dial"
}

// now is since began, and never 0.
func (a *away) now() time.Duration { return time.Since(a.began) + 1 }
