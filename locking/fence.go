package locking

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// fenceMember is the one member of a fence counter, which is a sorted set
// because only ZADD can raise a number to a value without a script.
const fenceMember = "m"

// fenceTTL is how long the counter and the record of the last grant outlive
// the last acquisition. The counter may expire: it starts again at the clock,
// which by then has passed every number given out.
const fenceTTL = 24 * time.Hour

// maxFence is the largest number that a score (a float64) holds exactly.
const maxFence = 1 << 53

var (
	errFenceRange = errors.New("the fence counter is out of range; delete the fence key of this resource")
	errClockRange = errors.New("the clock of the Redis server is out of range; set it")
)

// vanishedError says that Redis lost data in the middle of a grant. That is an outage:
// the next attempt may find it well.
type vanishedError struct{ what string }

func (e vanishedError) Error() string { return e.what + " vanished while the lock was granted" }
func (vanishedError) Unwrap() error   { return context.DeadlineExceeded }

// fencing numbers a grant. In place of the obtain script, or around it, it sends
//
//	ZADD fence GT <clock us> m     the counter is never behind the clock
//	SET lock NX GET PX             or EVALSHA obtain
//	ZINCRBY fence 1 m              this grant's number
//	EXPIRE fence
//	GET grant                      who was granted before us
//	COPY lock grant REPLACE        whoever holds the lock now was granted last
//	EXPIRE grant
//
// The number rises: ZINCRBY gives each caller another one, and a caller that
// holds the lock got its number after everyone who held it before. It also
// rises over a flush, an expiry and a fail-over that loses increments, because
// the clock has moved on by more than the number of attempts made. Processes
// know that clock at least and at most; a new counter starts at the latter, so one
// that is lost within the difference of its making may start again below it.
//
// An attempt that finds the lock held raises the counter too, and so does a
// pipeline that the client repeats: the numbers have gaps. Whether somebody was
// granted in between is therefore not read off the numbers but off the record
// of the last grant. COPY keeps it true without a script: after a failed attempt
// it copies the holder's own token, so only a grant changes the record.
type fencing struct {
	keys  lockKeys
	seed  int64 // microseconds
	again bool  // no new grant: the record of the last one stays

	token    string // that is asked for
	by       string // who has the lock, if another has; "": unknown
	fresh    bool   // the counter was not there, when the script was sent for the first time
	seeded   *redis.IntCmd
	number   *redis.FloatCmd
	previous *redis.StringCmd
	copied   *redis.Cmd
	expiries [2]*redis.BoolCmd
}

func (f *fencing) before(ctx context.Context, pipe redis.Pipeliner) {
	f.fresh = f.isFresh()
	f.seeded = pipe.ZAddGT(ctx, f.keys.fence, redis.Z{Score: float64(f.seed), Member: fenceMember})
}

func (f *fencing) after(ctx context.Context, pipe redis.Pipeliner) {
	f.number = pipe.ZIncrBy(ctx, f.keys.fence, 1, fenceMember)
	f.expiries[0] = pipe.Expire(ctx, f.keys.fence, fenceTTL)
	if f.again {
		return
	}
	f.previous = pipe.Get(ctx, f.keys.grant)
	// Not pipe.Copy: it names a database, and so needs the client's.
	f.copied = pipe.Do(ctx, "copy", f.keys.lock, f.keys.grant, "replace")
	f.expiries[1] = pipe.Expire(ctx, f.keys.grant, fenceTTL)
}

// instead implements standIn. The script is needed only where the lock may be ours
// already: the client sent the pipeline again, or we ask once more. (SET takes NX with
// GET since Redis 7.0.)
func (f *fencing) instead(ctx context.Context, pipe redis.Pipeliner, keys []string, args []any) *redis.Cmd {
	value, ttl := args[0].(string), args[2] //nolint:forcetypeassert,errcheck // as redislock has it, and our tests
	f.token = tokenOf(value)
	return pipe.Do(ctx, "set", keys[0], value, "nx", "get", "px", ttl)
}

// means implements standIn.
func (f *fencing) means(ctx context.Context, answer *redis.Cmd) *redis.Cmd {
	there, err := answer.Text()
	said := redis.NewCmd(ctx)
	switch {
	case errors.Is(err, redis.Nil): // nothing was there
		said.SetVal("OK")
		return said
	case classOf(err) == rediserr.Permanent && !rediserr.IsWrongType(err): // a server older than that
		return nil
	case err != nil:
		said.SetErr(err)
		return said
	case tokenOf(there) == f.token:
		return nil
	}
	f.by = tokenOf(there)
	said.SetErr(redis.Nil)
	return said
}

// isFresh tells whether the counter was not there before. What is sent again (a script
// that the server did not know, the script after its stand-in) finds the counter there.
func (f *fencing) isFresh() bool {
	return f.fresh || (f.seeded != nil && f.seeded.Err() == nil && f.seeded.Val() > 0)
}

// holder is the token of who has the lock, if it was not granted; from a script, of who
// was granted last. "" if unknown.
func (f *fencing) holder() string {
	if f.by != "" || f.previous == nil {
		return f.by
	}
	return tokenOf(f.previous.Val())
}

// result is the number of the grant and the token of the one before ("" if
// Redis does not know it). It fails if any of the commands did: a lease without
// its fence is not given out.
func (f *fencing) result() (fence uint64, previous string, err error) {
	errs := []error{f.seeded.Err(), f.number.Err(), f.expiries[0].Err()}
	if !f.again {
		previous, err = f.previous.Result()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		errs = append(errs, err, f.copied.Err(), f.expiries[1].Err())
	}
	for _, err := range errs {
		if err != nil {
			return 0, "", err
		}
	}
	if !f.again {
		if n, err := f.copied.Int(); err != nil || n == 0 {
			return 0, "", vanishedError{"the lock"}
		}
	}
	switch number := f.number.Val(); {
	case number >= maxFence: // or was rounded to it
		return 0, "", errFenceRange
	case number <= float64(f.seed):
		return 0, "", vanishedError{"the fence counter"}
	}
	return uint64(f.number.Val()), tokenOf(previous), nil
}
