package redisstate

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// shape is how a state is laid out in Redis, beside its guard.
type shape[T any] interface {
	// ask queues a read of a guard and a state; the answer is there once the
	// pipeline was executed.
	ask(ctx context.Context, p redis.Pipeliner, guard, state string) answer
	// open makes a state of what was read, if it was made under guard.
	open(id, guard string, raw stored) (T, found)
	// pack makes what is stored of a state that belongs to guard.
	pack(id, guard string, state T) (stored, error)
	// put queues what was packed.
	put(ctx context.Context, p redis.Pipeliner, name string, s stored)
	// renew prepares changes of a state that was made under before and now belongs
	// to fresh. It returns errNotAlone if there is none.
	renew(ctx context.Context, tx *redis.Tx, r renewal) (func(redis.Pipeliner), error)
}

// answer tells what a read gave.
type answer func() (guard string, raw stored, err error)

// stored is a state as it is in Redis: a string, or a hash.
type stored struct {
	value  string
	fields map[string]string
}

func (s stored) empty() bool { return s.value == "" && len(s.fields) == 0 }

// found tells what a read found.
type found int

const (
	absent  found = iota // nothing, or nothing that this process can read
	stale                // a state that was made under another guard
	present              // a state that may be used
)

// renewal says what becomes of a state that is there.
type renewal struct {
	id, name      string
	before, fresh string // guards
	patch         *patch
}

// text is how states become bytes. They are bound to their kind, their version
// and a context of the caller's.
type text struct {
	codec   Codec
	blobs   blobs
	max     int
	family  string // the kind's own
	version string
	failed  func(doing string, err error)
}

// lead begins what is stored under a guard.
func (t *text) lead(guard string) string { return guard + t.version + ":" }

func (t *text) seal(bound string, v any) (raw []byte, err error) {
	defer func() { t.tell("encode", err) }()
	defer recovered(&err)
	plain, err := t.codec.Marshal(v)
	if err != nil {
		return nil, marshalError(v, err)
	}
	if len(plain) > t.max {
		return nil, ErrTooLarge
	}
	return t.blobs.encode(t.family, t.version+":"+bound, plain)
}

func (t *text) unseal(bound, raw string, into any) (err error) {
	defer func() { t.tell("decode", err) }()
	defer recovered(&err)
	plain, err := t.blobs.decode(t.family, t.version+":"+bound, []byte(raw))
	if err == nil {
		err = t.codec.Unmarshal(plain, into)
	}
	return err
}

func (t *text) tell(doing string, err error) {
	if err != nil {
		t.failed(doing, err)
	}
}

// recovered makes a panic of the host's code an error: on a goroutine of ours it
// would end the process.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("it panicked (%T) at\n%s", p, debug.Stack())
	}
}

// whole is a state in one string: its guard, and its JSON.
type whole[T any] struct {
	text *text
	ttl  time.Duration
}

func (whole[T]) ask(ctx context.Context, p redis.Pipeliner, guard, state string) answer {
	reply := p.MGet(ctx, guard, state)
	return func() (string, stored, error) {
		both, err := reply.Result()
		if err != nil || len(both) != 2 {
			return "", stored{}, err
		}
		guard, _ := both[0].(string)
		value, _ := both[1].(string)
		return guard, stored{value: value}, nil
	}
}

func (w whole[T]) open(id, guard string, raw stored) (T, found) {
	var state T
	if !strings.HasPrefix(raw.value, guard) {
		return state, stale
	}
	body, ours := strings.CutPrefix(raw.value, w.text.lead(guard))
	if !ours || w.text.unseal(guard+id, body, &state) != nil {
		var none T
		return none, absent
	}
	return state, present
}

func (w whole[T]) pack(id, guard string, state T) (stored, error) {
	sealed, err := w.text.seal(guard+id, state)
	if err != nil {
		return stored{}, err
	}
	return stored{value: w.text.lead(guard) + string(sealed)}, nil
}

func (w whole[T]) put(ctx context.Context, p redis.Pipeliner, name string, s stored) {
	p.Set(ctx, name, s.value, w.ttl)
}

func (whole[T]) renew(context.Context, *redis.Tx, renewal) (func(redis.Pipeliner), error) {
	return nil, errNotAlone // it has no parts
}
