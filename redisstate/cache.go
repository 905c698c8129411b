package redisstate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Cache keeps hot state of a host's database in Redis: right before fast. It
// reads through: Get answers from Redis or loads. Writers go through Change, or
// tell by Invalidate.
//
// Each id has a guard beside its state, in one slot. A state is used only while
// the guard is there and is the one that the state was made under. A load takes
// the guard before it begins and an invalidation removes it; so what was loaded
// before an invalidation is never used after it, whoever is slow. While changes
// are under way they are listed beside it, and nothing is put in.
//
// What it promises, while Redis keeps what it acknowledged: a Get that begins
// after a Change or an Invalidate returned gives what that left in the database,
// or something later. A process that dies between its commit and the end of its
// Change, or loses Redis there, stays listed for ChangeTimeout, and reads go to
// the database for so long (a minute more if others change the state too). If
// Redis is flushed or fails over and loses what it acknowledged, or if someone
// writes to the database without Change and Invalidate, a state may be too old
// for up to TTL.
//
// NewCache makes it. It is safe for concurrent use. Loads run on goroutines of
// their own, which end with them or with Close.
type Cache[T any] struct {
	client  redis.UniversalClient
	space   keys.Space
	kind    string
	ttl     time.Duration
	change  time.Duration
	load    func(ctx context.Context, id string) (T, error)
	codec   Codec
	blobs   blobs
	max     int
	ordered bool
	flights flights[loadKey, T]
	log     *slog.Logger
	closed  atomic.Bool

	hits, misses prometheus.Counter
	events       *prometheus.CounterVec
}

// CacheOptions say what a Cache holds.
type CacheOptions[T any] struct {
	// Kind is what the states are, for example "workflow": 1 to 40 lower-case
	// letters, digits, "_" or "-". It is part of key names. Caches of one Kind
	// share what they hold, so they must have the same T.
	Kind string
	// Load reads a state from the database. What it returns for an id that does
	// not exist is returned to the caller and not kept; wrap ErrNotFound for
	// errors.Is. It must read what is committed (no replica that lags), and its
	// context ends only when nobody waits for it any more.
	Load func(ctx context.Context, id string) (T, error)
	// TTL is how long a state is used at most after its guard was made, at least
	// one second; 0 means DefaultCacheTTL.
	TTL time.Duration
	// ChangeTimeout is how long the mark of a Change stays if nobody takes it
	// away, at least one second; 0 means DefaultChangeTimeout. The host's
	// transaction gets three quarters of it.
	ChangeTimeout time.Duration
}

// Defaults of CacheOptions.
const (
	DefaultCacheTTL      = time.Minute
	DefaultChangeTimeout = time.Minute
)

const (
	opCacheGet        = "redisstate: get state"
	opCacheInvalidate = "redisstate: invalidate state"
	opCacheChange     = "redisstate: change state"
	opCacheLoad       = "redisstate: load state"
	stateFamily       = "state"
)

// loadKey tells loads of one id apart by the guard that they began under: only
// callers who saw that guard may share it.
type loadKey struct{ id, guard string }

// mark begins the guard of a change.
const mark = "!"

// cacheKind is what a Kind may be.
var cacheKind = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)

// NewCache makes a cache on a client, which it never closes. Of the options it
// uses Namespace, MaxConfigBytes (of one state; a larger one is not kept), Codec,
// Compression, Keys, RequireEncryption and the telemetry. No I/O. Errors wrap
// ErrInvalidOptions.
func NewCache[T any](client redis.UniversalClient, c CacheOptions[T], o Options) (*Cache[T], error) {
	errs := []error{o.validateStore()}
	if client == nil {
		errs = append(errs, invalid("no client given to NewCache; use Conn.Client"))
	}
	if !cacheKind.MatchString(c.Kind) {
		errs = append(errs, invalid(`CacheOptions.Kind is %.60q; use 1 to 40 of a-z, 0-9, "_" and "-"`, c.Kind))
	}
	if c.Load == nil {
		errs = append(errs, invalid("CacheOptions.Load is missing; it reads a state from the database"))
	}
	for name, d := range map[string]time.Duration{"TTL": c.TTL, "ChangeTimeout": c.ChangeTimeout} {
		if d != 0 && d < time.Second {
			errs = append(errs, invalid("CacheOptions.%s is %v; use at least 1s, or 0 for the default", name, d))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	setDefault(&c.TTL, DefaultCacheTTL)
	setDefault(&c.ChangeTimeout, DefaultChangeTimeout)
	mend(client)
	o = o.withDefaults()
	space, err := keys.NewSpace(o.Namespace, "")
	if err != nil {
		return nil, invalid("Namespace: %w", err)
	}
	tel, err := o.telemetry()
	if err != nil {
		return nil, err
	}
	_, single := client.(*redis.Client)
	return &Cache[T]{
		client: client, space: space, kind: c.Kind, ttl: c.TTL, change: c.ChangeTimeout, load: c.Load,
		codec: o.Codec, blobs: newBlobs(o), max: o.MaxConfigBytes, ordered: single,
		flights: flights[loadKey, T]{op: opCacheLoad, family: stateFamily}, log: tel.Log,
		hits:   tel.Metrics.CacheHits.WithLabelValues(telemetry.CacheState),
		misses: tel.Metrics.CacheMisses.WithLabelValues(telemetry.CacheState),
		events: tel.Metrics.StateCache,
	}, nil
}

// Close ends the cache's use in this process: what is called afterwards returns
// ErrClosed, and loads are cancelled. Nothing is removed and the client stays
// open. Closing twice is fine.
func (c *Cache[T]) Close() error {
	if !c.closed.Swap(true) {
		c.flights.close()
	}
	return nil
}

// Get gives the state of an id: from Redis if that is right, else from Load, at
// most one at a time per process and guard. Each caller gets a value of its own,
// except those who wait for the same load: treat it as read-only. While Redis is
// away each caller loads for itself. Errors: ErrInvalidKey, ErrClosed, Load's own.
func (c *Cache[T]) Get(ctx context.Context, id string) (T, error) {
	var none T
	if err := c.check(opCacheGet, id); err != nil {
		return none, err
	}
	guard, raw, err := c.look(ctx, id)
	return c.settle(ctx, id, guard, raw, err)
}

// maxCacheLoads is how many states GetMany loads at the same time.
const maxCacheLoads = 8

// GetMany does the same for several ids, whose states are looked for in one round
// trip (on Cluster one per node). An id whose Load says ErrNotFound is left out.
// Errors are joined; what was found is returned with them.
func (c *Cache[T]) GetMany(ctx context.Context, ids ...string) (map[string]T, error) {
	if err := c.check(opCacheGet, ids...); err != nil {
		return nil, err
	}
	ids = distinct(ids)
	replies := make([]*redis.SliceCmd, len(ids))
	_, pipelineErr := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.MGet(ctx, c.space.StateGuard(c.kind, id), c.space.State(c.kind, id))
		}
		return nil
	})
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		errs  []error
		found = make(map[string]T, len(ids))
		free  = make(chan struct{}, maxCacheLoads)
	)
	for i, id := range ids {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			guard, raw, err := pair(replies[i].Result())
			if err == nil && guard == "" && raw == "" && pipelineErr != nil {
				err = pipelineErr // a hook of the host may fail all and mark none
			}
			state, err := c.settle(ctx, id, guard, raw, err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				found[id] = state
			case !errors.Is(err, ErrNotFound):
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	return found, errors.Join(errs...)
}

func distinct(ids []string) []string {
	return unseen(append([]string(nil), ids...), make(map[string]bool, len(ids)))
}

func (c *Cache[T]) check(op string, ids ...string) error {
	if c.closed.Load() {
		return fmt.Errorf("%s (%s): %w", op, stateFamily, ErrClosed)
	}
	for _, id := range ids {
		if err := checkID("state id", id); err != nil {
			return fmt.Errorf("%s (%s): %w", op, stateFamily, err)
		}
	}
	return nil
}

// look reads guard and state of an id, at one moment; empty if not there.
func (c *Cache[T]) look(ctx context.Context, id string) (guard, raw string, err error) {
	return pair(c.client.MGet(ctx, c.space.StateGuard(c.kind, id), c.space.State(c.kind, id)).Result())
}

func pair(reply []any, err error) (guard, raw string, _ error) {
	if err != nil || len(reply) != 2 {
		return "", "", err
	}
	guard, _ = reply[0].(string)
	raw, _ = reply[1].(string)
	return guard, raw, nil
}

// settle makes a state of what Redis has, or loads it.
func (c *Cache[T]) settle(ctx context.Context, id, guard, raw string, err error) (T, error) {
	var none T
	if body, made := strings.CutPrefix(raw, guard); made && guard != "" && err == nil {
		if state, err := c.decode(id, guard, body); err == nil {
			c.hits.Inc()
			return state, nil
		}
	} else if raw != "" && err == nil {
		c.events.WithLabelValues(telemetry.StateStale).Inc()
	}
	c.misses.Inc()
	changing := false
	if err == nil {
		guard, changing, err = c.takeGuard(ctx, id)
	}
	switch {
	case ctx.Err() != nil:
		return none, rediserr.Wrap(ctx, opCacheGet, stateFamily, ctx.Err())
	case err != nil || changing || guard == "" || strings.HasPrefix(guard, mark):
		c.events.WithLabelValues(telemetry.StateBypass).Inc()
		return c.loadOne(ctx, id)
	}
	return c.flights.do(ctx, loadKey{id, guard}, func(ctx context.Context) (T, error) {
		state, err := c.loadOne(ctx, id)
		if err == nil {
			c.fill(ctx, id, guard, state)
		}
		return state, err
	})
}

// takeGuard makes a guard, or tells the one that is there, and whether a change
// is under way. Under a guard that was seen without one, a load may be put in: a
// change that begins later removes the guard.
func (c *Cache[T]) takeGuard(ctx context.Context, id string) (guard string, changing bool, err error) {
	guard = rand.Text()
	var before *redis.StatusCmd
	var changes *redis.IntCmd
	cmds, err := c.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		before = p.SetArgs(ctx, c.space.StateGuard(c.kind, id), guard, redis.SetArgs{Mode: "NX", Get: true, TTL: c.ttl})
		changes = p.Exists(ctx, c.space.StateChanges(c.kind, id))
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return "", false, err
	}
	if held, err := before.Result(); !errors.Is(err, redis.Nil) {
		guard = held
	}
	return guard, changes.Val() > 0, nil
}

// fill puts in what was loaded under a guard. If that is not the guard any more,
// nobody will use it. A failure costs the next reader a load.
func (c *Cache[T]) fill(ctx context.Context, id, guard string, state T) {
	if raw, err := c.encode(id, guard, state); err == nil {
		_ = c.client.Set(ctx, c.space.State(c.kind, id), raw, c.ttl).Err()
	}
}

// encode makes what is stored: the guard, and the state, which is bound to it.
func (c *Cache[T]) encode(id, guard string, state T) ([]byte, error) {
	plain, err := c.codec.Marshal(state)
	if err != nil {
		return nil, marshalError(state, err)
	}
	if len(plain) > c.max {
		return nil, ErrTooLarge
	}
	sealed, err := c.blobs.encode(stateFamily+":"+c.kind, guard+id, plain)
	if err != nil {
		return nil, err
	}
	return append([]byte(guard), sealed...), nil
}

func (c *Cache[T]) decode(id, guard, body string) (T, error) {
	var state T
	plain, err := c.blobs.decode(stateFamily+":"+c.kind, guard+id, []byte(body))
	if err == nil {
		err = c.codec.Unmarshal(plain, &state)
	}
	return state, err
}

// loadOne calls Load. A panic in it is an error for those who wait: on a
// goroutine of ours it would end the process.
func (c *Cache[T]) loadOne(ctx context.Context, id string) (state T, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.ErrorContext(ctx, "CacheOptions.Load panicked", "op", opCacheLoad, "family", stateFamily, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("%s (%s): Load panicked (%T)", opCacheLoad, stateFamily, p)
		}
	}()
	return c.load(ctx, id)
}
