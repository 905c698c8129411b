package redisstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// hotState is what the tests cache: a row and how often it was written.
type hotState struct {
	Version int
	Text    string
}

// rows are a database.
type rows struct {
	mu     sync.Mutex
	states map[string]hotState
	loads  atomic.Int64
	hold   func(id string) // called after a load has read, before it returns
}

func (r *rows) load(_ context.Context, id string) (hotState, error) {
	r.loads.Add(1)
	r.mu.Lock()
	state, known := r.states[id]
	r.mu.Unlock()
	if r.hold != nil {
		r.hold(id)
	}
	if !known {
		return hotState{}, fmt.Errorf("no row: %w", ErrNotFound)
	}
	return state, nil
}

// write is a transaction: the next version of a row.
func (r *rows) write(id string) hotState {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.states[id]
	state.Version++
	r.states[id] = state
	return state
}

func newRows(ids ...string) *rows {
	r := &rows{states: map[string]hotState{}}
	for _, id := range ids {
		r.states[id] = hotState{Version: 1, Text: "first"}
	}
	return r
}

// outage refuses what a client asks for, while it is on. (An error that miniredis
// gives to MULTI itself would leave go-redis' connection with replies to come.)
type outage struct{ on atomic.Bool }

var errLoading = replyError("LOADING Redis is loading the dataset in memory")

func (*outage) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *outage) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !o.on.Load() {
			return next(ctx, cmd)
		}
		cmd.SetErr(errLoading)
		return errLoading
	}
}

func (o *outage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !o.on.Load() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errLoading)
		}
		return errLoading
	}
}

func newCache(t testing.TB, client redis.UniversalClient, r *rows, o Options) *Cache[hotState] {
	t.Helper()
	c, err := NewCache(client, CacheOptions[hotState]{Kind: "workflow", Load: r.load}, o)
	if err != nil {
		t.Fatal(err)
	}
	c.away.wait = time.Minute // a busy machine is not an outage
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// has checks what a cache gives, and how many loads there have been.
func has(t *testing.T, c *Cache[hotState], r *rows, version int, loads int64) {
	t.Helper()
	got, err := c.Get(t.Context(), "a")
	if err != nil || got.Version != version || r.loads.Load() != loads {
		t.Errorf("it is %+v, %v after %d loads; want version %d after %d", got, err, r.loads.Load(), version, loads)
	}
}

func TestCache_loads_once_until_it_is_told_of_a_change(t *testing.T) {
	t.Parallel()
	ring := ringOf(t, EncryptionKey{ID: "k1", Key: bytes.Repeat([]byte("k"), 32)})
	for name, o := range map[string]Options{
		"plain":                    {},
		"compressed and encrypted": {Compression: CompressionZstd, Keys: ring, RequireEncryption: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, newServer(t))
			r := newRows("a")
			o.Registerer = prometheus.NewRegistry()
			c, other := newCache(t, client, r, o), newCache(t, client, r, o)
			has(t, c, r, 1, 1)
			has(t, c, r, 1, 1)
			has(t, other, r, 1, 1)
			r.write("a")
			has(t, other, r, 1, 1) // nobody said so
			if err := c.Invalidate(t.Context(), "a", "a"); err != nil {
				t.Fatal(err)
			}
			has(t, other, r, 2, 2)
			if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
				has(t, other, r, 2, 3) // not from Redis while a change is under way
				return map[string]hotState{"a": r.write("a")}, nil
			}); err != nil {
				t.Fatal(err)
			}
			has(t, other, r, 3, 3) // written through
			if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) { r.write("a"); return nil, nil }); err != nil {
				t.Fatal(err)
			}
			has(t, other, r, 4, 4) // taken out
			if hits := testutil.ToFloat64(c.hits); hits != 4 {
				t.Errorf("%v hits are counted; want 4", hits)
			}
		})
	}
}

func TestCache_keeps_nothing_of_a_change_that_may_not_have_been_committed(t *testing.T) {
	t.Parallel()
	unknown, rolledBack := errors.New("commit: connection reset"), fmt.Errorf("conflict: %w", ErrRolledBack)
	for name, change := range map[string]struct {
		commit func(r *rows) (map[string]hotState, error)
		want   error
		listed bool // until its mark expires
	}{
		"rolled back": {commit: func(*rows) (map[string]hotState, error) {
			return map[string]hotState{"a": {Version: 9}}, rolledBack
		}, want: ErrRolledBack},
		"it failed": {commit: func(*rows) (map[string]hotState, error) {
			return map[string]hotState{"a": {Version: 9}}, unknown
		}, want: unknown, listed: true},
		"committed, but who knows": {commit: func(r *rows) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, unknown
		}, want: unknown, listed: true},
		"it panicked":            {commit: func(r *rows) (map[string]hotState, error) { r.write("a"); panic("x") }, listed: true},
		"it ended the goroutine": {commit: func(r *rows) (map[string]hotState, error) { r.write("a"); runtime.Goexit(); return nil, nil }, listed: true},
		"states of others": {commit: func(r *rows) (map[string]hotState, error) {
			r.write("a")
			return map[string]hotState{"b": {Version: 9}}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, r := newServer(t), newRows("a", "b")
			c := newCache(t, newClient(t, server), r, quiet())
			has(t, c, r, 1, 1)
			ended := make(chan error)
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) { return change.commit(r) })
				if !errors.Is(err, change.want) {
					t.Errorf("the error is %v", err)
				}
			}()
			<-ended
			version := r.states["a"].Version
			has(t, c, r, version, 2)
			if change.listed { // it may yet be committed, for all that is known
				has(t, c, r, version, 3)
				r.write("a")
				has(t, c, r, version+1, 4)
				server.FastForward(DefaultChangeTimeout)
				has(t, c, r, version+1, 5)
				has(t, c, r, version+1, 5)
			} else {
				has(t, c, r, version, 2)
			}
			if b, err := c.Get(t.Context(), "b"); b.Version != 1 || err != nil {
				t.Errorf("b is %+v, %v", b, err)
			}
			if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnknown)); (n == 1) != change.listed {
				t.Errorf("%v changes are counted as unknown", n)
			}
		})
	}
}

// A mark lives for as long as its process said, whatever others say.
func TestCache_change_is_not_cut_short_by_one_with_less_time(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	client := newClient(t, server)
	long, short := newCache(t, client, r, quiet()), newCache(t, client, r, quiet())
	short.change = time.Second
	_ = long.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		return nil, errors.New("who knows")
	})
	if err := short.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	server.FastForward(DefaultChangeTimeout - time.Second)
	has(t, long, r, 1, 1)
	has(t, long, r, 1, 2)
}

// The mark alone keeps reads from putting anything in, if Redis evicted the list.
func TestCache_puts_nothing_in_under_a_mark(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	c := newCache(t, newClient(t, server), r, quiet())
	if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		server.Del(c.space.StateChanges("workflow", "a"))
		has(t, c, r, 1, 1)
		has(t, c, r, 1, 2)
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// What follows a change is done also for a caller who gave up; what is known of
// one that took too long is not used.
func TestCache_change_whose_caller_gave_up_or_took_too_long(t *testing.T) {
	t.Parallel()
	r := newRows("a")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	write := func(context.Context) (map[string]hotState, error) {
		cancel()
		return map[string]hotState{"a": r.write("a")}, nil
	}
	if err := c.Change(ctx, []string{"a"}, write); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 2, 0)
	c.change = time.Second
	if err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		<-ctx.Done() // its time is over
		return write(ctx)
	}); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 3, 1)
}

// A process that died is listed for no longer than its time and a minute,
// however many changes others make.
func TestCache_forgets_changes_of_processes_that_died(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	c := newCache(t, newClient(t, server), r, quiet())
	for _, died := range []struct {
		left  time.Duration // of its time
		loads int64
	}{{-clockSkew + time.Minute/2, 2}, {-clockSkew - time.Second, 1}} {
		r.loads.Store(0)
		loads, died := died.loads, redis.Z{Score: float64(time.Now().Add(died.left).UnixMicro()), Member: mark + "died"}
		if err := c.client.ZAdd(t.Context(), c.space.StateChanges("workflow", "a"), died).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		has(t, c, r, 1, 1)
		has(t, c, r, 1, loads)
	}
	// The next change tidies up, and is alone.
	if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		return map[string]hotState{"a": r.write("a")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 2, 1)
}

// What cannot be put in is loaded when it is asked for.
func TestCache_writes_through_only_what_it_can(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(c *Cache[hotState]){
		"a state that JSON cannot be": func(c *Cache[hotState]) { c.text.codec = mute{} },
		"a state that panics":         func(c *Cache[hotState]) { c.text.codec = wild{} },
		"a state that is too large":   func(c *Cache[hotState]) { c.text.max = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRows("a")
			c := newCache(t, newClient(t, newServer(t)), r, quiet())
			has(t, c, r, 1, 1)
			breaks(c)
			if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
				return map[string]hotState{"a": r.write("a")}, nil
			}); err != nil {
				t.Errorf("the change failed: %v", err)
			}
			has(t, c, r, 2, 2) // nor can it be put in after a load
			has(t, c, r, 2, 3)
			c.text.codec, c.text.max = stdCodec{}, DefaultMaxConfigBytes
			has(t, c, r, 2, 4) // nothing is left of the change
			has(t, c, r, 2, 4)
			if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnfit)); n != 3 {
				t.Errorf("%v states are counted as unfit; want 3", n)
			}
		})
	}
}

// mute marshals nothing.
type mute struct{ stdCodec }

func (mute) Marshal(any) ([]byte, error) { return nil, errors.New("no") }

// wild panics.
type wild struct{}

func (wild) Marshal(any) ([]byte, error) { panic("wild") }
func (wild) Unmarshal([]byte, any) error { panic("wild") }

// A load has read the database, and waits; then the state changes; then the load
// comes back.
func TestCache_never_uses_what_was_loaded_before_a_change(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, c *Cache[hotState], r *rows) error{
		"invalidated": func(ctx context.Context, c *Cache[hotState], r *rows) error {
			r.write("a")
			return c.Invalidate(ctx, "a")
		},
		"written through": func(ctx context.Context, c *Cache[hotState], r *rows) error {
			return c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) {
				return map[string]hotState{"a": r.write("a")}, nil
			})
		},
		"changed and taken out": func(ctx context.Context, c *Cache[hotState], r *rows) error {
			return c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) { r.write("a"); return nil, nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, newServer(t))
			r := newRows("a")
			read, goOn := make(chan struct{}), make(chan struct{})
			var held atomic.Bool
			r.hold = func(string) {
				if !held.Swap(true) {
					close(read)
					<-goOn
				}
			}
			c := newCache(t, client, r, quiet())
			slow := make(chan int)
			go func() {
				got, err := c.Get(t.Context(), "a")
				if err != nil {
					t.Error(err)
				}
				slow <- got.Version
			}()
			<-read
			if err := change(t.Context(), c, r); err != nil {
				t.Fatal(err)
			}
			// Neither joins the load that is under way nor finds what it left.
			if got, err := c.Get(t.Context(), "a"); got.Version != 2 || err != nil {
				t.Errorf("while the load waits it is %+v, %v; want version 2", got, err)
			}
			close(goOn)
			if v := <-slow; v != 1 {
				t.Errorf("the load gave version %d", v)
			}
			if got, err := c.Get(t.Context(), "a"); got.Version != 2 || err != nil {
				t.Errorf("afterwards it is %+v, %v; want version 2", got, err)
			}
		})
	}
}

// Two changes of one id overlap; the first to begin ends last, and knows an
// earlier state.
func TestCache_keeps_no_state_of_changes_that_overlap(t *testing.T) {
	t.Parallel()
	r := newRows("a")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		mine := r.write("a")
		err := c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, nil
		})
		if got, getErr := c.Get(ctx, "a"); got.Version != 3 || getErr != nil { // makes a guard
			t.Errorf("between the ends it is %+v, %v", got, getErr)
		}
		return map[string]hotState{"a": mine}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), "a"); got.Version != 3 || err != nil {
		t.Errorf("it is %+v, %v; want version 3", got, err)
	}
}

// One change ends while another is under way, which then loses Redis before it
// can say that it ended.
func TestCache_keeps_nothing_while_any_change_is_under_way(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	r := newRows("a")
	client, down := newClient(t, server), new(outage)
	client.AddHook(down)
	c := newCache(t, client, r, quiet())
	version := func() int {
		got, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		return got.Version
	}
	err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		err := c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, nil
		})
		if v := version(); v != 2 {
			t.Errorf("between the two it is version %d", v)
		}
		r.write("a")
		down.on.Store(true)
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	down.on.Store(false)
	if v := version(); v != 3 {
		t.Errorf("it is version %d; want 3", v)
	}
	server.FastForward(DefaultChangeTimeout)
	if v, again := version(), version(); v != 3 || again != 3 {
		t.Errorf("it is version %d, then %d; want 3", v, again)
	}
}

func TestCache_without_Redis(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	r := newRows("a")
	client, down := newClient(t, server), new(outage)
	client.AddHook(down)
	c := newCache(t, client, r, quiet())
	has(t, c, r, 1, 1)
	down.on.Store(true)
	has(t, c, r, 1, 2) // from the database
	called := false
	change := func() error {
		return c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
			called = true
			down.on.Store(true)
			return map[string]hotState{"a": r.write("a")}, nil
		})
	}
	if err := change(); !errors.Is(err, ErrUnavailable) || called {
		t.Errorf("a change gives %v, and its transaction ran: %v", err, called)
	}
	if err := c.Invalidate(t.Context(), "a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an invalidation gives %v", err)
	}
	down.on.Store(false)
	if err := change(); err != nil || !called { // Redis goes away in the middle
		t.Errorf("a change gives %v, and its transaction ran: %v", err, called)
	}
	down.on.Store(false)
	loads := r.loads.Load()
	has(t, c, r, 2, loads+1) // the mark is there
	has(t, c, r, 2, loads+2)
	server.FastForward(DefaultChangeTimeout)
	has(t, c, r, 2, loads+3)
	has(t, c, r, 2, loads+3)
}

func TestCache_GetMany(t *testing.T) {
	t.Parallel()
	r := newRows("a", "b", "c")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	has(t, c, r, 1, 1)
	for range 2 {
		got, err := c.GetMany(t.Context(), "a", "b", "a", "c", "none")
		if err != nil || len(got) != 3 || got["a"].Version != 1 || got["c"].Version != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if n := r.loads.Load(); n != 5 { // a, b, c, and twice for what there is not
		t.Errorf("there were %d loads", n)
	}
}

func TestCache_shares_a_load(t *testing.T) {
	t.Parallel()
	r := newRows("a")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	const callers = 8
	r.hold = func(string) {
		for waiting := 0; waiting < callers; runtime.Gosched() {
			c.flights.mu.Lock()
			for _, one := range c.flights.calls {
				waiting = one.waiters
			}
			c.flights.mu.Unlock()
		}
	}
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if got, err := c.Get(t.Context(), "a"); got.Version != 1 || err != nil {
				t.Errorf("it is %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if n := r.loads.Load(); n != 1 {
		t.Errorf("there were %d loads", n)
	}
}

func TestCache_takes_damage_for_a_miss(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(s *miniredis.Miniredis, c *Cache[hotState], v, g string) error{
		"a state of another type": func(s *miniredis.Miniredis, _ *Cache[hotState], v, _ string) error {
			s.Del(v)
			_, err := s.Push(v, "x")
			return err
		},
		"a state cut short": func(s *miniredis.Miniredis, _ *Cache[hotState], v, _ string) error {
			raw, err := s.Get(v)
			return errors.Join(err, s.Set(v, raw[:len(raw)-2]))
		},
		"no state":           func(s *miniredis.Miniredis, _ *Cache[hotState], v, _ string) error { s.Del(v); return nil },
		"no guard":           func(s *miniredis.Miniredis, _ *Cache[hotState], _, g string) error { s.Del(g); return nil },
		"an empty guard":     func(s *miniredis.Miniredis, _ *Cache[hotState], _, g string) error { return s.Set(g, "") },
		"everything flushed": func(s *miniredis.Miniredis, _ *Cache[hotState], _, _ string) error { s.FlushAll(); return nil },
		"what this process cannot decode": func(_ *miniredis.Miniredis, c *Cache[hotState], _, _ string) error {
			c.text.codec = wild{}
			return nil
		},
		"everything expired": func(s *miniredis.Miniredis, _ *Cache[hotState], _, _ string) error {
			s.FastForward(DefaultCacheTTL)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			r := newRows("a")
			c := newCache(t, newClient(t, server), r, quiet())
			has(t, c, r, 1, 1)
			r.write("a")
			if err := damage(server, c, c.space.State("workflow", "a"), c.space.StateGuard("workflow", "a")); err != nil {
				t.Fatal(err)
			}
			has(t, c, r, 2, 2)
		})
	}
}

func TestNewCache_refuses_what_makes_no_sense(t *testing.T) {
	t.Parallel()
	client, r := newClient(t, newServer(t)), newRows()
	for want, o := range map[string]CacheOptions[hotState]{
		"Kind":          {Kind: "Work flow", Load: r.load},
		"Load":          {Kind: "w"},
		"Version":       {Kind: "w", Load: r.load, Version: "v 2"},
		"TTL":           {Kind: "w", Load: r.load, TTL: time.Millisecond},
		"ChangeTimeout": {Kind: "w", Load: r.load, ChangeTimeout: -1},
	} {
		if _, err := NewCache(client, o, quiet()); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), "CacheOptions."+want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for want, client := range map[string]redis.UniversalClient{
		"no client": nil,
		"Ring":      redis.NewRing(&redis.RingOptions{}),
		"ReadOnly":  redis.NewClusterClient(&redis.ClusterOptions{ReadOnly: true}),
		"replicas":  redis.NewClusterClient(&redis.ClusterOptions{RouteByLatency: true}),
		"Randomly":  redis.NewClusterClient(&redis.ClusterOptions{RouteRandomly: true}),
	} {
		if _, err := NewCache(client, CacheOptions[hotState]{Kind: "w", Load: r.load}, quiet()); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
		if client != nil {
			_ = client.Close()
		}
	}
	c := newCache(t, client, r, quiet())
	if _, err := c.Get(t.Context(), ""); !errors.Is(err, ErrInvalidKey) {
		t.Errorf("an empty id gives %v", err)
	}
	_ = c.Close()
	if _, err := c.Get(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close it gives %v", err)
	}
}
