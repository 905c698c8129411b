package redisstate

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
)

// newLoader makes a cache with a Load of its own.
func newLoader(t *testing.T, client redis.UniversalClient, load func(ctx context.Context, id string) (hotState, error)) *Cache[hotState] {
	t.Helper()
	c, err := NewCache(client, CacheOptions[hotState]{Kind: "workflow", Load: load}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type transaction struct{}

// A load is for all who wait, and for those who read what it leaves. So it does
// not find the transaction of the first.
func TestCache_loads_with_nothing_of_the_caller_but_its_trace(t *testing.T) {
	t.Parallel()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	member, err := baggage.NewMember("tenant", "x")
	if err != nil {
		t.Fatal(err)
	}
	carried, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(t)
	c := newLoader(t, newClient(t, server), func(ctx context.Context, _ string) (hotState, error) {
		if ctx.Value(transaction{}) != nil {
			t.Error("a load has the caller's transaction")
		}
		if !trace.SpanContextFromContext(ctx).Equal(span) || baggage.FromContext(ctx).Member("tenant").Value() != "x" {
			t.Error("a load has not the caller's trace")
		}
		return hotState{}, nil
	})
	ctx := context.WithValue(baggage.ContextWithBaggage(trace.ContextWithSpanContext(t.Context(), span), carried), transaction{}, "tx")
	for _, fault := range []string{"", "LOADING Redis is loading the dataset in memory"} {
		server.SetError(fault)
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Error(err)
		}
	}
}

// Whether it is shared or not, a load ends when nobody waits for it, or with
// Close.
func TestCache_load_ends_early(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{"shared": "", "past Redis": "LOADING Redis is loading the dataset in memory"} {
		for how, want := range map[string]error{"given up": context.Canceled, "out of time": context.DeadlineExceeded, "closed": ErrClosed} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				server := newServer(t)
				server.SetError(fault)
				loading := make(chan struct{})
				c := newLoader(t, newClient(t, server), func(ctx context.Context, _ string) (hotState, error) {
					close(loading)
					<-ctx.Done()
					return hotState{}, ctx.Err()
				})
				ctx, cancel := context.WithCancel(t.Context())
				if how == "out of time" {
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				}
				defer cancel()
				go func() {
					<-loading
					switch how {
					case "given up":
						cancel()
					case "closed":
						_ = c.Close()
					}
				}()
				if _, err := c.Get(ctx, "a"); !errors.Is(err, want) {
					t.Errorf("it ended with %v", err)
				}
			})
		}
	}
}

func TestCache_outlives_what_a_load_does(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"", "LOADING Redis is loading the dataset in memory"} {
		server := newServer(t)
		server.SetError(fault)
		c := newLoader(t, newClient(t, server), func(_ context.Context, id string) (hotState, error) {
			switch id {
			case "panics":
				panic("x")
			case "ends":
				runtime.Goexit()
			}
			return hotState{Version: 1}, nil
		})
		got, err := c.GetMany(t.Context(), "a", "panics", "ends", "b")
		if len(got) != 2 || got["a"].Version != 1 || got["b"].Version != 1 {
			t.Errorf("with %q it gave %v", fault, got)
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 2 {
			t.Errorf("with %q the errors are %v", fault, err)
		}
	}
}

func TestCache_GetMany_without_Redis(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a", "b")
	c := newCache(t, newClient(t, server), r, quiet())
	for range 2 {
		if got, err := c.GetMany(t.Context(), "a", "b", "none"); len(got) != 2 || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
		r.write("a")
		server.SetError("LOADING Redis is loading the dataset in memory")
	}
	if got, err := c.GetMany(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("of nothing it gives %v, %v", got, err)
	}
}

// A server that takes connections and says nothing costs a read what it may wait
// once, and the reads after it nothing.
func TestCache_past_a_Redis_that_says_nothing(t *testing.T) {
	t.Parallel()
	hole, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	client := redis.NewClient(&redis.Options{Addr: hole.Addr().String(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	var asked atomic.Int64
	client.AddHook(onPipeline(func() { asked.Add(1) }))
	r := newRows("a")
	c := newCache(t, client, r, quiet())
	c.away.wait = 10 * time.Millisecond
	for loads := range int64(3) {
		has(t, c, r, 1, loads+1)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("Redis was asked %d times; want once", n)
	}
}

// onPipeline is told of each pipeline of a client.
type onPipeline func()

func (onPipeline) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (onPipeline) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (f onPipeline) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { f(); return next(ctx, cmds) }
}

func TestAway_asks_again_after_a_while_and_one_at_first(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := away{began: time.Now(), wait: cacheWait}
		asked := 0
		silent := func(ctx context.Context) error { asked++; <-ctx.Done(); return ctx.Err() }
		refuses := func(context.Context) error { asked++; return errors.New("refused") }
		expect := func(do func(context.Context) error, want error, calls int) {
			t.Helper()
			if err := a.ask(t.Context(), do); !errors.Is(err, want) || asked != calls {
				t.Errorf("it gave %v after %d calls; want %v after %d", err, asked, want, calls)
			}
		}
		began := time.Now()
		expect(silent, context.DeadlineExceeded, 1)
		if took := time.Since(began); took != cacheWait {
			t.Errorf("it waited %v", took)
		}
		expect(silent, errAway, 1)
		<-time.After(awayFor)
		if err := a.ask(t.Context(), func(context.Context) error { // the others do not wait for it
			expect(silent, errAway, 1)
			return nil
		}); err != nil {
			t.Error(err)
		}
		expect(silent, context.DeadlineExceeded, 2)
		<-time.After(awayFor)
		if err := a.ask(t.Context(), refuses); errors.Is(err, errAway) || asked != 3 { // that is an answer
			t.Errorf("it gave %v after %d calls", err, asked)
		}
		if err := a.ask(t.Context(), refuses); errors.Is(err, errAway) || asked != 4 {
			t.Errorf("it gave %v after %d calls", err, asked)
		}
		gone := func(context.Context) error {
			asked++
			return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}
		if err := a.ask(t.Context(), gone); !nobodyThere(err) {
			t.Error(err)
		}
		expect(silent, errAway, 5) // nobody is there: as good as no answer
		<-time.After(awayFor)
		if err := a.ask(t.Context(), refuses); errors.Is(err, errAway) { // it is back
			t.Error(err)
		}
		given, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.ask(given, silent); !errors.Is(err, context.Canceled) { // nor does a caller who gave up say anything
			t.Error(err)
		}
		if err := a.ask(t.Context(), refuses); errors.Is(err, errAway) {
			t.Error(err)
		}
	})
}

// Callers in a hurry are left half of their time, and all of them together notice
// that nobody gets an answer.
func TestAway_of_callers_with_little_time(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := away{began: time.Now(), wait: cacheWait}
		hurry := func(do func(context.Context) error) (waited time.Duration, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			err = a.ask(ctx, do)
			return time.Since(began), err
		}
		silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		answers := func(context.Context) error { return nil }
		asked := func(n int) {
			t.Helper()
			for i := range n {
				if waited, err := hurry(silent); waited != 50*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("caller %d waited %v and got %v", i, waited, err)
				}
			}
		}
		asked(4)
		if _, err := hurry(answers); err != nil { // it was only slow
			t.Error(err)
		}
		<-time.After(time.Hour)
		asked(5)
		if waited, err := hurry(answers); waited != 0 || !errors.Is(err, errAway) {
			t.Errorf("nobody was answered for %v, and one more waited %v and got %v", cacheWait, waited, err)
		}
	})
}

func TestInParallel(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	for name, test := range map[string]struct {
		n, parallel int
		stop        bool
		do          func(i int) error
		calls       int
		want        error
	}{
		"nothing":        {do: func(int) error { return bad }},
		"one":            {n: 1, parallel: 4, do: func(int) error { return bad }, calls: 1, want: bad},
		"all":            {n: 5, parallel: 2, do: func(int) error { return nil }, calls: 5},
		"all, with some": {n: 5, parallel: 1, do: func(i int) error { return map[int]error{2: bad}[i] }, calls: 5, want: bad},
		"to the first":   {n: 5, parallel: 1, stop: true, do: func(i int) error { return map[int]error{2: bad}[i] }, calls: 3, want: bad},
		"one that ends":  {n: 2, parallel: 1, do: func(int) error { runtime.Goexit(); return nil }, calls: 2, want: errEnded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := make(chan int, 10)
			err := inParallel(test.n, test.parallel, test.stop, func(i int) error { calls <- i; return test.do(i) })
			if !errors.Is(err, test.want) || len(calls) != test.calls {
				t.Errorf("it gave %v after %d calls", err, len(calls))
			}
		})
	}
}

func TestCache_of_another_version_is_not_read_but_told(t *testing.T) {
	t.Parallel()
	client, r := newClient(t, newServer(t)), newRows("a")
	old, err := NewCache(client, CacheOptions[hotState]{Kind: "workflow", Version: "1", Load: r.load}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := NewCache(client, CacheOptions[hotState]{Kind: "workflow", Version: "2", Load: r.load}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	old.away.wait, renewed.away.wait = time.Minute, time.Minute // a busy machine is not an outage
	has(t, old, r, 1, 1)
	has(t, renewed, r, 1, 2)
	has(t, renewed, r, 1, 2)
	r.write("a")
	if err := old.Invalidate(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	has(t, renewed, r, 2, 3)
	has(t, old, r, 2, 4)
}

func TestNewCache_says_that_a_client_ignores_deadlines(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		client redis.UniversalClient
		says   bool
	}{
		"a client that does":     {client: redis.NewClient(&redis.Options{Addr: "nowhere:1"}), says: true},
		"one that does not":      {client: redis.NewClient(&redis.Options{Addr: "nowhere:1", ContextTimeoutEnabled: true})},
		"on Cluster":             {client: redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"nowhere:1"}}), says: true},
		"on Cluster, one better": {client: redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"nowhere:1"}, ContextTimeoutEnabled: true})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { _ = test.client.Close() })
			var log bytes.Buffer
			o := quiet()
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			newCache(t, test.client, newRows(), o)
			if strings.Contains(log.String(), "ContextTimeoutEnabled") != test.says {
				t.Errorf("the log is %q", log.String())
			}
		})
	}
}
