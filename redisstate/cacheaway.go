package redisstate

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// away bounds what a read of a cached state waits for Redis, and remembers that
// it waited in vain: a server that answers nothing would else cost each read that
// wait. The state is in the database, which is asked instead.
type away struct {
	began time.Time
	wait  time.Duration
	until atomic.Int64 // since began; 0: Redis answers
}

const (
	// cacheWait is how long a read waits for Redis.
	cacheWait = 250 * time.Millisecond
	// awayFor is how long Redis is not asked after it did not answer.
	awayFor = time.Second
)

// errAway says that Redis was not asked.
var errAway = errors.New("no answer from Redis a moment ago")

// ask calls do, which asks Redis, with a context that ends in time.
func (a *away) ask(ctx context.Context, do func(context.Context) error) error {
	if until := a.until.Load(); until != 0 {
		now := time.Since(a.began)
		// One of those who come later finds out whether it is back.
		if now < time.Duration(until) || !a.until.CompareAndSwap(until, int64(now+a.wait)) {
			return errAway
		}
	}
	bounded, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	err := do(bounded)
	switch {
	case bounded.Err() != nil && ctx.Err() == nil:
		a.until.Store(int64(time.Since(a.began) + awayFor))
	case err == nil || bounded.Err() == nil: // whatever it said, it answered, or refused
		a.until.Store(0)
	}
	return err
}
