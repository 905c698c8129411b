package redisstate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Cache keeps hot state of a host's database in Redis: right before fast. It
// reads through: Get answers from Redis or loads. Writers go through Change or
// Changes, or tell by Invalidate.
//
// Each id has a guard beside its state, in one slot. A state is used only while
// the guard is there and is the one that the state was made under. A load takes
// the guard before it begins and an invalidation removes it; so what was loaded
// before an invalidation is never used after it, whoever is slow. While changes
// are under way they are listed beside it, and nothing is put in. Every read asks
// Redis for the guard: an invalidation is in force everywhere when it returns,
// and no message about it can be lost.
//
// What it promises, while Redis keeps what it acknowledged and the clocks of
// processes differ by less than a minute: a Get that begins after a Change or an
// Invalidate returned gives what that left in the database, or something later. A
// process that dies between its commit and the end of its Change, loses Redis
// there, or does not know whether its commit happened, stays listed for
// ChangeTimeout, and reads go to the database for so long (a minute more if
// others change the state too). If Redis is flushed, evicts guards or lists, or
// fails over and loses what it acknowledged, or if someone writes to the database
// without Change and Invalidate, a state may be too old for up to TTL.
//
// NewCache makes it; NewAggregateCache one whose states have parts. It is safe
// for concurrent use. Loads run on goroutines of their own, which end with them
// or with Close.
type Cache[T any] struct {
	guards
	load    func(ctx context.Context, id string) (T, error)
	text    *text
	shape   shape[T]
	flights flights[loadKey, T]
	away    away
	closed  atomic.Bool
	closing context.Context
	end     context.CancelFunc
	warned  atomic.Int64 // when a state that does not fit was last told, in Unix nanoseconds

	hits, misses prometheus.Counter
	bypassed     prometheus.Counter // seconds
	tellDenied   sync.Once
}

// CacheOptions say what a Cache holds.
type CacheOptions[T any] struct {
	// Kind is what the states are, for example "workflow": 1 to 40 lower-case
	// letters, digits, "_" or "-". It is part of key names. Caches of one Kind
	// share what they hold: all of them have the same T, else one decodes the other's
	// states, and finds fields of its own empty.
	Kind string
	// Version is that of T: up to 40 characters as in Kind. Raise it whenever T
	// changes, so that processes of a rolling deploy do not read each other's
	// states: each takes those of another version for missing. Writes are told
	// across versions. Defaults to none.
	Version string
	// Load reads a state from the database. What it returns for an id that does
	// not exist is returned to the caller and not kept; wrap ErrNotFound for
	// errors.Is. It must read what is committed: no replica that lags, and not
	// inside a transaction of the caller. So that it cannot find one, its context
	// has no values but the span and the baggage of the first who asked. The
	// context ends when nobody waits for the load any more, or with Close.
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

// cacheKind is what a Kind may be, and a Version that is not empty.
var cacheKind = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)

// NewCache makes a cache on a client, which it never closes. Of the options it
// uses Namespace, MaxConfigBytes (of one state; a larger one is not kept), Codec,
// Compression, Keys, RequireEncryption and the telemetry. A client that reads
// from replicas, and a Ring, are refused: they would not see a guard in time (one
// of NewFailoverClient with ReplicaOnly is not told apart: with it every read is a
// load, and every Change is refused). The client should have
// ContextTimeoutEnabled, as Conn.Client has; without it what is said here of a
// Redis that says nothing takes the client's time-outs, which is logged. No I/O.
// Errors wrap ErrInvalidOptions.
func NewCache[T any](client redis.UniversalClient, c CacheOptions[T], o Options) (*Cache[T], error) {
	return newCacheOf(client, c, o, func(t *text, ttl time.Duration) shape[T] { return whole[T]{t, ttl} })
}

func newCacheOf[T any](client redis.UniversalClient, c CacheOptions[T], o Options, shapeOf func(*text, time.Duration) shape[T]) (*Cache[T], error) {
	if err := errors.Join(o.validateStore(), readsMasters("NewCache", client), c.validate()); err != nil {
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
	tellIfHangs(tel.Log, client, "op", "redisstate: new cache", "family", stateFamily, "kind", c.Kind)
	_, single := client.(*redis.Client)
	cache := &Cache[T]{
		guards: guards{
			client: client, space: space, kind: c.Kind, ttl: c.TTL, change: c.ChangeTimeout,
			ordered: single, log: tel.Log, events: tel.Metrics.StateCache,
		},
		load:     c.Load,
		text:     &text{codec: o.Codec, blobs: newBlobs(o, tel.Metrics.KeyUses), max: o.MaxConfigBytes, family: stateFamily + ":" + c.Kind, version: c.Version},
		flights:  flights[loadKey, T]{op: opCacheLoad, family: stateFamily},
		away:     away{began: time.Now(), wait: cacheWait},
		hits:     tel.Metrics.CacheHits.WithLabelValues(telemetry.CacheState),
		misses:   tel.Metrics.CacheMisses.WithLabelValues(telemetry.CacheState),
		bypassed: tel.Metrics.CacheBypass.WithLabelValues(telemetry.CacheState),
	}
	cache.text.failed = cache.unfit
	cache.shape = shapeOf(cache.text, c.TTL)
	cache.closing, cache.end = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	return cache, nil
}

func (c CacheOptions[T]) validate() error {
	var errs []error
	if !cacheKind.MatchString(c.Kind) {
		errs = append(errs, invalid(`CacheOptions.Kind is %.60q; use 1 to 40 of a-z, 0-9, "_" and "-"`, c.Kind))
	}
	if c.Version != "" && !cacheKind.MatchString(c.Version) {
		errs = append(errs, invalid(`CacheOptions.Version is %.60q; use up to 40 of a-z, 0-9, "_" and "-"`, c.Version))
	}
	if c.Load == nil {
		errs = append(errs, invalid("CacheOptions.Load is missing; it reads a state from the database"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"TTL", c.TTL}, {"ChangeTimeout", c.ChangeTimeout}} {
		if d.value != 0 && d.value < time.Second {
			errs = append(errs, invalid("CacheOptions.%s is %v; use at least 1s, or 0 for the default", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

// readsMasters refuses clients that may answer from a replica.
func readsMasters(by string, client redis.UniversalClient) error {
	switch client := client.(type) {
	case nil:
		return invalid("no client given to %s; use Conn.Client", by)
	case *redis.Ring:
		return invalid("the client given to %s is a redis.Ring, whose servers do not know of each other; use a Client or a ClusterClient", by)
	case *redis.ClusterClient:
		if o := client.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return invalid("the client given to %s reads from replicas, which are behind their masters; give one without ReadOnly, RouteByLatency and RouteRandomly", by)
		}
	}
	return nil
}

// tellIfHangs warns, once for what is made on it, of a client that hangs.
func tellIfHangs(log *slog.Logger, client redis.UniversalClient, of ...any) {
	if hangs(client) {
		log.With(of...).Warn("The client ignores deadlines of contexts, so a Redis that says nothing holds up callers for the client's time-outs",
			"remedy", "set ContextTimeoutEnabled in its options, or use Conn.Client")
	}
}

// hangs tells whether a client's commands go on after their context's deadline.
func hangs(client redis.UniversalClient) bool {
	switch client := client.(type) {
	case *redis.Client:
		return !client.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return !client.Options().ContextTimeoutEnabled
	}
	return false
}

// Close ends the cache's use in this process: what is called afterwards returns
// ErrClosed, as do loads that are under way, which are cancelled. Nothing is
// removed and the client stays open. Closing twice is fine.
func (c *Cache[T]) Close() error {
	if !c.closed.Swap(true) {
		c.end()
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
	return c.settle(ctx, id, c.look(ctx, id)(0))
}

// GetMany does the same for several ids, whose states are looked for in one round
// trip (on Cluster one per node). An id whose Load says ErrNotFound is left out.
// Errors are joined; what was found is returned with them.
func (c *Cache[T]) GetMany(ctx context.Context, ids ...string) (map[string]T, error) {
	if err := c.check(opCacheGet, ids...); err != nil {
		return nil, err
	}
	ids = distinct(ids)
	seen := c.look(ctx, ids...)
	found := make([]*T, len(ids))
	err := inParallel(len(ids), parallelStates, allErrors, func(i int) error {
		state, err := c.settle(ctx, ids[i], seen(i))
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err == nil {
			found[i] = &state
		}
		return err
	})
	states := make(map[string]T, len(ids))
	for i, state := range found {
		if state != nil {
			states[ids[i]] = *state
		}
	}
	return states, err
}

func distinct(ids []string) []string {
	return unseen(append([]string(nil), ids...), make(map[string]bool, len(ids)))
}

func (c *Cache[T]) check(op string, ids ...string) error {
	if c.closed.Load() {
		return c.fail(op, ErrClosed)
	}
	for _, id := range ids {
		if err := checkID("state id", id); err != nil {
			return c.fail(op, err)
		}
	}
	return nil
}

func (c *Cache[T]) fail(op string, err error) error {
	return fmt.Errorf("%s (%s): %w", op, stateFamily, err)
}

// sight is what Redis has of an id: nothing, if that is not known.
type sight struct {
	guard string
	raw   stored
	err   error
}

// look reads guards and states, and tells them by the place of the id.
func (c *Cache[T]) look(ctx context.Context, ids ...string) func(i int) sight {
	answers := make([]answer, len(ids))
	err := c.away.ask(ctx, func(ctx context.Context) error {
		cmds, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range ids {
				answers[i] = c.shape.ask(ctx, p, c.space.StateGuard(c.kind, id), c.space.State(c.kind, id))
			}
			return nil
		})
		return rediserr.Reason(err, cmds)
	})
	return func(i int) (s sight) {
		if answers[i] == nil {
			return sight{err: err} // nobody was asked
		}
		s.guard, s.raw, s.err = answers[i]()
		if s.err == nil && s.guard == "" && s.raw.empty() {
			s.err = err // a hook of the host may fail all and mark none
		}
		return s
	}
}

// settle makes a state of what Redis has, or loads it.
func (c *Cache[T]) settle(ctx context.Context, id string, s sight) (state T, err error) {
	defer func() {
		if err != nil && c.closed.Load() {
			err = c.fail(opCacheGet, ErrClosed)
		}
	}()
	if s.err == nil && s.guard != "" && !s.raw.empty() {
		state, found := c.shape.open(id, s.guard, s.raw)
		switch found {
		case present:
			c.hits.Inc()
			return state, nil
		case stale:
			c.events.WithLabelValues(telemetry.StateStale).Inc()
		case absent:
		}
	}
	c.misses.Inc()
	guard, changing, err := s.guard, false, s.err
	if err == nil {
		err = c.away.ask(ctx, func(ctx context.Context) (err error) {
			guard, changing, err = c.take(ctx, id)
			return err
		})
	}
	switch {
	case ctx.Err() != nil:
		return state, rediserr.Wrap(ctx, opCacheGet, stateFamily, ctx.Err())
	case err != nil || changing || guard == "" || isMark(guard):
		c.denied(ctx, err)
		c.events.WithLabelValues(telemetry.StateBypass).Inc()
		defer func(began time.Time) { c.bypassed.Add(time.Since(began).Seconds()) }(time.Now())
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

// denied says once that nothing is kept for want of a permission.
func (c *Cache[T]) denied(ctx context.Context, err error) {
	if rediserr.Classify(ctx, err) != rediserr.Denied {
		return
	}
	c.tellDenied.Do(func() {
		c.log.WarnContext(ctx, "Redis refuses what reads of cached states need; every read goes to the database",
			"op", opCacheGet, "family", stateFamily, "kind", c.kind, "error", rediserr.Wrap(ctx, opCacheGet, stateFamily, err),
			"remedy", "grant the commands that docs/operations.md lists for cached states")
	})
}

// fill puts in what was loaded under a guard. If that is not the guard any more,
// nobody will use it. A failure costs the next reader a load.
func (c *Cache[T]) fill(ctx context.Context, id, guard string, state T) {
	packed, err := c.shape.pack(id, guard, state)
	if err != nil {
		return
	}
	_ = c.away.ask(ctx, func(ctx context.Context) error {
		_, err := c.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			c.shape.put(ctx, p, c.space.State(c.kind, id), packed)
			return nil
		})
		return err
	})
}

// loadOne calls Load. A panic in it is an error for those who wait: on a
// goroutine of ours it would end the process.
func (c *Cache[T]) loadOne(ctx context.Context, id string) (state T, err error) {
	ctx, cancel := c.apart(ctx)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			c.log.ErrorContext(ctx, "CacheOptions.Load panicked", "op", opCacheLoad, "family", stateFamily, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = c.fail(opCacheLoad, fmt.Errorf("Load panicked (%T)", p))
		}
	}()
	return c.load(ctx, id)
}

// apart gives a context that ends as ctx does, or with Close, and has of its
// values only those of tracing: what is loaded is for all.
func (c *Cache[T]) apart(ctx context.Context) (context.Context, context.CancelFunc) {
	values := baggage.ContextWithBaggage(trace.ContextWithSpan(c.closing, trace.SpanFromContext(ctx)), baggage.FromContext(ctx))
	ends := func() {}
	deadline, bounded := ctx.Deadline()
	if bounded {
		values, ends = context.WithDeadline(values, deadline)
	}
	loading, cancel := context.WithCancel(values)
	stop := context.AfterFunc(ctx, func() {
		if !bounded || !errors.Is(ctx.Err(), context.DeadlineExceeded) { // else it ends by itself, and says why
			cancel()
		}
	})
	return loading, func() { stop(); cancel(); ends() }
}

// unfit says that a state cannot be kept, or read, as it is.
func (c *Cache[T]) unfit(doing string, err error) {
	c.events.WithLabelValues(telemetry.StateUnfit).Inc()
	now, last := time.Now().UnixNano(), c.warned.Load()
	if time.Duration(now-last) > unfitEvery && c.warned.CompareAndSwap(last, now) {
		c.log.Warn("A state is not cached as it is; it is loaded each time",
			"op", opCacheGet, "family", stateFamily, "kind", c.kind, "doing", doing, "error", err)
	}
}

// unfitEvery is how often it is told that states cannot be kept.
const unfitEvery = time.Minute
