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
