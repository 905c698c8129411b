package redisstate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Limits of counters and gauges.
const (
	// CountersTTL is how long all counters of a namespace live after the last
	// write to any of them; gauges likewise.
	CountersTTL = 30 * 24 * time.Hour
	// MaxCounters is how many names there may be, counters and gauges each: they
	// become label values.
	MaxCounters = 256
	// MaxCounterNameBytes bounds a name.
	MaxCounterNameBytes = 64
)

var (
	// ErrOutcomeUnknown says that the connection was lost between a change and
	// Redis' answer: it was made once or not at all. It is never made twice.
	// Whoever repeats the call decides that counting twice is better than not at
	// all.
	ErrOutcomeUnknown = errors.New("whether it was counted is unknown")
	// ErrTooManyNames says that a new name would be one more than MaxCounters.
	ErrTooManyNames = errors.New("too many names")
)

// Counters are numbers that all processes of a namespace share: counters, which
// only rise, and gauges. One hash in Redis holds each kind. NewCounters makes
// them. They are safe for concurrent use and run nothing in the background.
//
// A change is made at most once: the client never repeats one whose answer was
// lost, as it does with other commands, and the error then wraps
// ErrOutcomeUnknown beside ErrUnavailable. Exactly once is not to be had
// without remembering each change.
//
// Names are 1 to MaxCounterNameBytes of a-z, 0-9 and '_', fixed by the program:
// never ids. The first use of a name in a process asks Redis how many there are;
// callers that bring in new ones at the same moment may pass MaxCounters by a few.
//
// Not for: accounting. An expiry, a flush or a failover loses what was counted.
//
// Every method may return errors wrapping ErrUnavailable, ErrDenied, ErrClosed,
// ErrWrongType, and the context's error when the caller gave up.
type Counters struct {
	client   redis.UniversalClient
	counters numbers
	gauges   numbers
	space    keys.Space
	closed   atomic.Bool
}

// numbers are the counters or the gauges.
type numbers struct {
	key string

	mu    sync.Mutex // one admission at a time
	known map[string]bool
}

// NewCounters makes counters on a client, which it never closes. Of the options
// it uses Namespace. No I/O. Errors wrap ErrInvalidOptions.
func NewCounters(client redis.UniversalClient, o Options) (*Counters, error) {
	if client == nil {
		return nil, invalid("no client given to NewCounters; use Conn.Client")
	}
	if err := o.validateStore(); err != nil {
		return nil, err
	}
	space, err := keys.NewSpace(o.Namespace, "")
	if err != nil {
		return nil, invalid("Namespace: %w", err)
	}
	return &Counters{
		client:   client,
		space:    space,
		counters: numbers{key: space.Counters(), known: map[string]bool{}},
		gauges:   numbers{key: space.Gauges(), known: map[string]bool{}},
	}, nil
}

// Close ends the counters' use in this process: what is called afterwards
// returns ErrClosed. Nothing is removed and the client stays open. Closing
// twice is fine.
func (c *Counters) Close() error {
	c.closed.Store(true)
	return nil
}

// Incr adds delta, which is not negative, to a counter and returns its new
// value. 0 brings a counter into being. Errors: ErrInvalidKey for the name,
// ErrInvalidValue for delta, ErrTooManyNames, ErrOutcomeUnknown.
func (c *Counters) Incr(ctx context.Context, name string, delta int64) (int64, error) {
	if delta < 0 {
		return 0, failCounters(opIncr, fmt.Errorf("%w: %d is negative; a counter only rises, use a gauge", ErrInvalidValue, delta))
	}
	var reply *redis.IntCmd
	err := c.change(ctx, opIncr, &c.counters, name, func(p redis.Pipeliner, key string) {
		reply = p.HIncrBy(ctx, key, name, delta)
	})
	if err != nil {
		return 0, err
	}
	return reply.Val(), nil
}

// SetGauge gives a gauge a value, which is finite. Repeating it is harmless.
// Errors: ErrInvalidKey, ErrInvalidValue, ErrTooManyNames, ErrOutcomeUnknown.
func (c *Counters) SetGauge(ctx context.Context, name string, value float64) error {
	if err := finite(opSetGauge, value); err != nil {
		return err
	}
	return c.change(ctx, opSetGauge, &c.gauges, name, func(p redis.Pipeliner, key string) {
		p.HSet(ctx, key, name, strconv.FormatFloat(value, 'g', -1, 64))
	})
}

// AddGauge adds delta, which is finite and may be negative, to a gauge and
// returns its new value. Errors: those of SetGauge.
func (c *Counters) AddGauge(ctx context.Context, name string, delta float64) (float64, error) {
	if err := finite(opAddGauge, delta); err != nil {
		return 0, err
	}
	var reply *redis.FloatCmd
	err := c.change(ctx, opAddGauge, &c.gauges, name, func(p redis.Pipeliner, key string) {
		reply = p.HIncrByFloat(ctx, key, name, delta)
	})
	if err != nil {
		return 0, err
	}
	return reply.Val(), nil
}

// Delete removes counters and gauges of these names. Names that are not there
// are none's concern. Errors: ErrInvalidKey, told before anything is removed.
func (c *Counters) Delete(ctx context.Context, names ...string) error {
	if err := c.checkOpen(opDeleteCounters); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkNumberName(name); err != nil {
			return failCounters(opDeleteCounters, err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	cmds, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HDel(ctx, c.counters.key, names...)
		p.HDel(ctx, c.gauges.key, names...)
		return nil
	})
	if err = countersError(ctx, opDeleteCounters, rediserr.Reason(err, cmds)); err != nil {
		return err
	}
	c.counters.forget(names)
	c.gauges.forget(names)
	return nil
}

// change makes one change. The transaction is what keeps the client from
// making it twice: go-redis repeats single commands and plain pipelines when an
// answer is lost, but no transaction that it has sent.
func (c *Counters) change(ctx context.Context, op string, n *numbers, name string, add func(p redis.Pipeliner, key string)) error {
	if err := c.checkOpen(op); err != nil {
		return err
	}
	if err := checkNumberName(name); err != nil {
		return failCounters(op, err)
	}
	if err := n.admit(ctx, c.client, name); err != nil {
		if errors.Is(err, ErrTooManyNames) {
			return failCounters(op, err)
		}
		return countersError(ctx, op, err)
	}
	if err := ctx.Err(); err != nil { // nothing was sent
		return countersError(ctx, op, err)
	}
	cmds, err := c.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		add(p, n.key)
		p.Do(ctx, "pexpire", n.key, CountersTTL.Milliseconds(), "nx")
		p.Do(ctx, "pexpire", n.key, CountersTTL.Milliseconds(), "gt")
		return nil
	})
	err = rediserr.Reason(err, cmds)
	told := countersError(ctx, op, err)
	if rediserr.MayHaveRun(err) {
		return &reworded{fmt.Sprintf("%v; %v", told, ErrOutcomeUnknown), []error{told, ErrOutcomeUnknown}}
	}
	return told
}

// admit lets a name in: it is known, or Redis has it, or there is room.
func (n *numbers) admit(ctx context.Context, client redis.UniversalClient, name string) error {
	n.mu.Lock()
	known, full := n.known[name], len(n.known) >= MaxCounters
	n.mu.Unlock()
	if known {
		return nil
	}
	if full {
		return errTooManyNames
	}
	var there *redis.BoolCmd
	var size *redis.IntCmd
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		there, size = p.HExists(ctx, n.key, name), p.HLen(ctx, n.key)
		return nil
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.known[name]:
		return nil
	case len(n.known) >= MaxCounters, !there.Val() && size.Val() >= MaxCounters:
		return errTooManyNames
	}
	n.known[name] = true
	return nil
}

func (n *numbers) forget(names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		delete(n.known, name)
	}
}

var errTooManyNames = fmt.Errorf("%w: there are %d already; fix the names in the program, and delete what nobody uses by Counters.Delete",
	ErrTooManyNames, MaxCounters)

// checkNumberName takes what can stand in a metric without quoting.
func checkNumberName(name string) error {
	if name == "" || len(name) > MaxCounterNameBytes {
		return fmt.Errorf("%w: the name is %d bytes long; use 1 to %d", ErrInvalidKey, len(name), MaxCounterNameBytes)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("%w: the name has the character %q; use a-z, 0-9 and '_'", ErrInvalidKey, c)
		}
	}
	return nil
}

func finite(op string, v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return failCounters(op, fmt.Errorf("%w: %v is not finite", ErrInvalidValue, v))
	}
	return nil
}

// Names of operations and of the key family in errors.
const (
	opIncr           = "redisstate: increment counter"
	opSetGauge       = "redisstate: set gauge"
	opAddGauge       = "redisstate: add to gauge"
	opDeleteCounters = "redisstate: delete counters"
	opSnapshot       = "redisstate: snapshot of counters"
	countersFamily   = "counters"
)

func (c *Counters) checkOpen(op string) error {
	if c.closed.Load() {
		return failCounters(op, ErrClosed)
	}
	return nil
}

func failCounters(op string, err error) error {
	return fmt.Errorf("%s (%s): %w", op, countersFamily, err)
}

// countersError turns the client's error into one of this package.
func countersError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case rediserr.IsWrongType(err):
		return failCounters(op, ErrWrongType)
	}
	return rediserr.Wrap(ctx, op, countersFamily, err)
}
