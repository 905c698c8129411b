package locking

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Why a master did not do what it was asked for. Everything else that a node
// returns is a *rediserr.Error.
var (
	errHeld = errors.New("held by another")
	errGone = errors.New("redis no longer knows the lease")
)

// takenError is an errHeld of one master. While a lock is held, the last grant is
// its holder's.
type takenError struct{ by string }

func (*takenError) Error() string        { return errHeld.Error() }
func (*takenError) Is(target error) bool { return target == errHeld }

// lockKeys are the names that belong to one resource; they share a slot.
type lockKeys struct {
	lock  string // string: the holder's token; lives for the TTL
	fence string // sorted set: the counter
	grant string // string: token of the last grant
	queue string // sorted set: the ring, while nobody took it
	mark  string // string: there while someone waits, or of who looked last (see look.go); only with several masters
}

func keysOf(space keys.Space, resource string) lockKeys {
	return lockKeys{
		lock:  space.Lock(resource),
		fence: space.Fence(resource),
		grant: space.LockGrant(resource),
		queue: space.LockQueue(resource),
		mark:  space.LockWaiters(resource),
	}
}

// node is one Redis master: it grants, extends and takes back, and knows
// nothing of other masters, of renewal or of waiting.
type node struct {
	client redis.UniversalClient
	pipes  *pipes
	locks  *redislock.Client
	now    clock
	time   serverTime
	by     string // who we are, for List
	losses *losses
	lanes  lanes
	rest   rest
}

func newNode(client redis.UniversalClient, now clock, log *slog.Logger) *node {
	p := newPipes(client, log)
	return &node{client: client, pipes: p, locks: redislock.New(scripter{client, p, new(atomic.Bool)}), now: now, rest: rest{began: time.Now()}}
}

// vote is what one master granted.
type vote struct {
	lock     *redislock.Lock
	fence    uint64
	previous string // token of the grant before, "" if unknown
	fresh    bool   // the counter was not there before
	// quarantine is for how long the vote does not count yet: the master was
	// started a moment ago, and may have given it to another before.
	quarantine time.Duration
	// steady is since when the master's history has been the same: who was granted from
	// then on is not forgotten.
	steady time.Time
}

// want is what a master is asked for.
type want struct {
	token string
	text  string // stands behind the token, see holder
	ttl   time.Duration
	seed  int64 // the fence is higher; 0: than the clock of the master
	// again says that the lease stands and this master has no part in it: that is
	// no new grant.
	again      bool
	quarantine time.Duration
}

// obtain asks for the lock once, in one round trip. It returns errHeld if
// another has it. Called again with the same token it renews what it got: that
// is how a lost reply is mended. After any other error it is unknown whether
// the lock was taken.
func (n *node) obtain(ctx context.Context, k lockKeys, w want) (*vote, error) {
	seed, err := n.time.micros(ctx, n.client, n.now) // also to know it later
	if err != nil {
		return nil, wrap("locking: read the clock", err)
	}
	if w.seed > 0 {
		seed = w.seed
	}
	sent := time.Now()
	f := &fencing{keys: k, seed: seed, again: w.again}
	lock, err := n.locks.Obtain(attended(ctx, f), k.lock, w.ttl, &redislock.Options{Token: w.token, Metadata: w.text})
	switch {
	case errors.Is(err, redislock.ErrNotObtained):
		return nil, &takenError{by: f.holder()}
	case err != nil:
		return nil, wrap("locking: acquire", err)
	}
	fence, previous, err := f.result()
	if err != nil {
		return nil, &grantedError{wrap("locking: take a fence", err)}
	}
	v := &vote{lock: lock, fence: fence, previous: previous, fresh: f.isFresh()}
	if err := n.vouch(ctx, k, v, sent, w); err != nil {
		return nil, &grantedError{err}
	}
	return v, nil
}

// grantedError says why a grant cannot be used: the lock is there all the same, and
// is to be given back.
type grantedError struct{ error }

func (e *grantedError) Unwrap() error { return e.error }

// vouch tells how far a vote, which was asked for at the given time, is to be trusted.
func (n *node) vouch(ctx context.Context, k lockKeys, v *vote, sent time.Time, w want) error {
	if w.again && w.quarantine <= 0 {
		return nil
	}
	// Of the grants of this process only one that was lost is asked about, see Follows:
	// no other is worth a question.
	p, steady, err := n.process(ctx, k, n.losses.has(v.previous))
	if w.quarantine > 0 {
		if err != nil {
			return err
		}
		v.quarantine = p.left(sent, w.quarantine)
	}
	if v.steady = steady; err != nil || steady.IsZero() {
		v.previous = "" // others may have been forgotten
	}
	return nil
}

// process is what the process that granted a lock a moment ago says of itself, and since
// when its history has been the same; zero if that cannot be told.
func (n *node) process(ctx context.Context, k lockKeys, anew bool) (process, time.Time, error) {
	var one *redis.Client
	switch client := n.client.(type) {
	case *redis.Client:
		one = client
	case *redis.ClusterClient:
		var err error
		if one, err = client.MasterForKey(ctx, k.lock); err != nil {
			return process{}, time.Time{}, wrap("locking: find the master", err)
		}
	default:
		return process{}, time.Time{}, nil
	}
	return restartsOf(one).ask(ctx, one, anew)
}

// raise has the fences of a lock go on from the given one. It may be repeated.
func (n *node) raise(ctx context.Context, k lockKeys, fence uint64) error {
	pipe := n.client.Pipeline()
	raised := pipe.ZAddGT(ctx, k.fence, redis.Z{Score: float64(fence), Member: fenceMember})
	kept := pipe.Expire(ctx, k.fence, fenceTTL)
	err := n.pipes.exec(ctx, pipe)
	if err == nil {
		err = errors.Join(raised.Err(), kept.Err())
	}
	return wrap("locking: raise the fence", err)
}

// remaining is how long the lock stays held if nobody renews it; 0 or less if
// it is free. A look of who waits for it is noted.
func (n *node) remaining(ctx context.Context, k lockKeys, g glance) (time.Duration, error) {
	pipe := n.client.Pipeline()
	ttl := pipe.PTTL(ctx, k.lock)
	if g.again > 0 {
		pipe.Set(ctx, k.mark, g.text(), g.again+lookGrace) // it may be refused
	}
	err := n.pipes.exec(ctx, pipe)
	var left time.Duration
	if err == nil {
		left, err = ttl.Result()
	}
	if err != nil {
		return 0, wrap("locking: look at the holder", err)
	}
	if left == -1 { // a key without TTL is not of our making, but it is there
		return time.Hour, nil
	}
	return left, nil
}

// extend gives the lock another TTL. It returns errGone if it is no longer
// ours.
func (n *node) extend(ctx context.Context, v *vote, ttl time.Duration) error {
	err := v.lock.Refresh(ctx, ttl, nil)
	if errors.Is(err, redislock.ErrNotObtained) {
		return errGone
	}
	return wrap("locking: renew", err)
}

// release gives the lock back, and does what goes with it, if that is not nil. It
// returns errGone if the lock was no longer ours.
func (n *node) release(ctx context.Context, v *vote, with farewell) error {
	if with != nil {
		ctx = attended(ctx, with)
	}
	err := v.lock.Release(ctx)
	if errors.Is(err, redislock.ErrLockNotHeld) {
		return errGone
	}
	return wrap("locking: release", err)
}

// undo takes back what an obtain of unknown outcome may have got. A token
// without a redislock.Lock cannot be released, so it is obtained once more
// (which succeeds at once if it is ours) and then released.
func (n *node) undo(ctx context.Context, k lockKeys, token, text string, with farewell) error {
	lock, err := n.locks.Obtain(ctx, k.lock, MinTTL, &redislock.Options{Token: token, Metadata: text})
	if errors.Is(err, redislock.ErrNotObtained) {
		return nil
	}
	if err != nil {
		return wrap("locking: undo", err)
	}
	err = n.release(ctx, &vote{lock: lock}, with)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// ring wakes the next waiter, and tells whether one was there.
func (n *node) ring(ctx context.Context, k lockKeys) (heard bool, err error) {
	r := &ringing{queue: k.queue}
	pipe := n.client.Pipeline()
	r.after(ctx, pipe)
	if err := n.pipes.exec(ctx, pipe); err != nil {
		return false, wrap("locking: wake a waiter", err)
	}
	return r.waited(), wrap("locking: wake a waiter", r.left.Err())
}

// wrap classifies err. The contexts of this package's calls end only by their
// own time-outs, which mean that Redis did not answer; so none is passed.
func wrap(op string, err error) error {
	return rediserr.Wrap(context.Background(), op, "lock", err)
}

func classOf(err error) rediserr.Class {
	if known, ok := errors.AsType[*rediserr.Error](err); ok {
		return known.Class
	}
	return rediserr.Classify(context.Background(), err)
}
