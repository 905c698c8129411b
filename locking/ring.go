package locking

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// ringTTL is how long a ring that nobody heard waits for a waiter who was just
// about to listen.
const ringTTL = 2 * time.Second

// farewell goes with a release: it tells whether somebody waited.
type farewell interface {
	attendant
	waited() bool
}

// ringing wakes the waiter that has listened longest: Redis hands the one
// member of the queue to the first BZPOPMIN. Adding the member again changes
// nothing, so the pipeline may be repeated and the queue never holds more than
// one.
type ringing struct {
	queue string
	left  *redis.BoolCmd
}

func (r *ringing) before(context.Context, redis.Pipeliner) {}

func (r *ringing) after(ctx context.Context, pipe redis.Pipeliner) {
	pipe.ZAdd(ctx, r.queue, redis.Z{Score: 0, Member: "1"})
	r.left = pipe.PExpire(ctx, r.queue, ringTTL)
}

// waited tells whether a waiter took the ring: then the key was gone again when its
// expiry was to be set.
func (r *ringing) waited() bool { return r.left != nil && r.left.Err() == nil && !r.left.Val() }

// asking asks for the mark that waiters leave. With several masters they are woken
// when a majority has released, and no sooner: who comes after the first of them finds
// the others held, and has woken for nothing.
type asking struct {
	mark  string
	there *redis.IntCmd
}

func (*asking) before(context.Context, redis.Pipeliner) {}

func (a *asking) after(ctx context.Context, pipe redis.Pipeliner) { a.there = pipe.Exists(ctx, a.mark) }

// waited is also true where Redis does not let us ask.
func (a *asking) waited() bool {
	return a.there != nil && (a.there.Val() > 0 || classOf(a.there.Err()) == rediserr.Denied)
}
