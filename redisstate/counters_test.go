package redisstate

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

func newCounters(t *testing.T, client redis.UniversalClient) *Counters {
	t.Helper()
	c, err := NewCounters(client, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eager is a client that repeats whatever it may.
func eager(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: 5, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 2 * time.Millisecond})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestCounters_never_count_twice_when_answers_are_lost(t *testing.T) {
	t.Parallel()
	countsOnce(t, newServer(t).Addr())
}

// countsOnce counts through a proxy that loses every third answer, so each
// change is made and some callers do not hear of it.
func countsOnce(t *testing.T, server string) {
	t.Helper()
	for _, command := range []string{"hincrby", "hincrbyfloat"} {
		p := newLossy(t, server, everyThird(command))
		c := newCounters(t, eager(t, p.addr))
		name := "n_" + command
		const callers, calls = 4, 30
		var told, unknown atomic.Int64
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range calls {
					var err error
					if command == "hincrby" {
						_, err = c.Incr(t.Context(), name, 1)
					} else {
						_, err = c.AddGauge(t.Context(), name, 1)
					}
					switch {
					case err == nil:
						told.Add(1)
					case errors.Is(err, ErrOutcomeUnknown) && errors.Is(err, ErrUnavailable) && !strings.Contains(err.Error(), "\n"):
						unknown.Add(1)
					default:
						t.Errorf("%s: %v", command, err)
					}
				}
			})
		}
		all.Wait()
		now, err := newCounters(t, eager(t, server)).Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := int64(now.Gauges[name]) + now.Counters[name]
		if got != callers*calls || told.Load() == 0 || unknown.Load() < callers*calls/4 || p.lost.Load() != unknown.Load() {
			t.Errorf("%s: counted %d of %d; told %d, unknown %d, lost answers %d", command, got, callers*calls, told.Load(), unknown.Load(), p.lost.Load())
		}
	}
}

func TestCounters_tell_that_nothing_was_counted_where_nothing_was_sent(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	c := newCounters(t, newClient(t, server))
	if _, err := c.Incr(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	server.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	if _, err := c.Incr(t.Context(), "a", 1); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("a refusal gave %v", err)
	}
	server.SetError("")
	nowhere := newCounters(t, newClient(t, server))
	server.Close()
	if _, err := nowhere.Incr(t.Context(), "a", 1); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("no connection gave %v", err)
	}
}

func TestNewCounters_and_NewSessions_check_their_options(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	for name, try := range map[string]func(redis.UniversalClient, Options) error{
		"NewCounters": func(c redis.UniversalClient, o Options) error { _, err := NewCounters(c, o); return err },
		"NewSessions": func(c redis.UniversalClient, o Options) error { _, err := NewSessions(c, o); return err },
	} {
		for what, err := range map[string]error{
			"no client":   try(nil, Options{}),
			"a namespace": try(client, Options{Namespace: "a b"}),
			"a limit":     try(client, Options{MaxConfigBytes: -1}),
		} {
			if !errors.Is(err, ErrInvalidOptions) {
				t.Errorf("%s: %s gave %v", name, what, err)
			}
		}
	}
}

func TestCollector_is_well_formed_and_keeps_namespaces_apart(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	registry := prometheus.NewPedanticRegistry()
	for i, namespace := range []string{"one", "two"} {
		c, err := NewCounters(client, Options{Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Incr(t.Context(), "a", int64(i)+1); err != nil {
			t.Fatal(err)
		}
		if err := registry.Register(c.Collector()); err != nil {
			t.Fatal(err)
		}
		if registry.Register(c.Collector()) == nil {
			t.Error("the same numbers were registered twice")
		}
	}
	const want = `
# HELP redis_shared_total The host's counters, over all processes.
# TYPE redis_shared_total counter
redis_shared_total{name="a",namespace="one"} 1
redis_shared_total{name="a",namespace="two"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "redis_shared_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestCollector_gives_the_last_numbers_while_Redis_is_away(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	c := newCounters(t, newClient(t, server))
	collector := c.Collector()
	// A busy machine may take longer than a scrape waits, and then the numbers are
	// rightly those from before. What bounds the wait is the next test's subject.
	collector.(*countersCollector).timeout = time.Minute
	if _, err := c.Incr(t.Context(), "a", 7); err != nil {
		t.Fatal(err)
	}
	value := func() float64 {
		t.Helper()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(collector)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "redis_shared_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
	if v := value(); v != 7 {
		t.Fatalf("got %v", v)
	}
	server.Close()
	if v := value(); v != 7 {
		t.Fatalf("without Redis: %v", v)
	}
	mini.Restart(t, server)
	if _, err := newCounters(t, newClient(t, server)).Incr(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	if v := value(); v != 8 {
		t.Fatalf("after it came back: %v", v)
	}
	never := newCounters(t, newClient(t, newServer(t)))
	never.client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = never.client.Close() })
	collector = never.Collector()
	if v := value(); v != -1 {
		t.Fatalf("of a Redis that never answered: %v", v)
	}
}

// A Redis that accepts and says nothing, and a client without deadlines.
func TestCollector_does_not_hold_up_a_scrape(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	client := redis.NewClient(&redis.Options{Addr: listener.Addr().String(), MaxRetries: -1, ReadTimeout: -1, DialTimeout: time.Minute})
	collector, ok := newCounters(t, client).Collector().(*countersCollector)
	if !ok {
		t.Fatal("another collector")
	}
	collector.timeout = 20 * time.Millisecond
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if n := testutil.CollectAndCount(collector); n != 0 {
				t.Errorf("got %d", n)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("scrapes hang")
	}
	reading := collector.read()
	_ = client.Close()
	_ = listener.Close()
	select {
	case <-reading:
	case <-time.After(10 * time.Second):
		t.Fatal("the read never ends")
	}
}

func TestCollector_bounds_the_names_whatever_is_in_Redis(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	for i := range 3 * MaxCounters {
		server.HSet("temporal-redis:@counters", fmt.Sprintf("n%04d", i), "1")
		server.HSet("temporal-redis:@counters", fmt.Sprintf("N %d\xff", i), "1")
	}
	if n := testutil.CollectAndCount(newCounters(t, newClient(t, server)).Collector(), "redis_shared_total"); n != MaxCounters {
		t.Fatalf("exports %d", n)
	}
}
