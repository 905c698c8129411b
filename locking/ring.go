package locking

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// ringTTL is how long a ring that nobody heard waits for a waiter who was just
// about to listen.
const ringTTL = 2 * time.Second

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

// heard tells whether a waiter took the ring: then the key was gone again when
// its expiry was to be set. It is false for none and for one that was not sent.
func (r *ringing) heard() bool {
	return r != nil && r.left != nil && r.left.Err() == nil && !r.left.Val()
}
