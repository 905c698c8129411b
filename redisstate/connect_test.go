package redisstate

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/loopback"
)

func connect(t testing.TB, o Options) *Conn {
	t.Helper()
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	conn, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestConnect_needs_no_Redis_and_Check_tells(t *testing.T) {
	t.Parallel()
	port, err := loopback.Port()
	if err != nil {
		t.Fatal(err)
	}
	defer loopback.Release(port)
	address := loopback.Address(port)
	conn := connect(t, Options{URL: "redis://:C4n4ry@" + address})
	start := time.Now()
	err = conn.Check(t.Context())
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDenied) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	if !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), "C4n4ry") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error should name %s and nothing secret: %v", address, err)
	}
	if took := time.Since(start); took > checkTimeout+time.Second {
		t.Errorf("Check took %v", took)
	}
	store := newStore(t, conn.Client(), quiet())
	if _, err := store.Get(t.Context(), ID("a")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("get gave %v; want ErrUnavailable", err)
	}
	if _, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("set gave %v; want ErrUnavailable", err)
	}
}

// blackHole accepts connections and never answers.
func blackHole(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return listener.Addr().String()
}

func TestCheck_takes_a_silent_server_for_unavailable_within_its_deadline(t *testing.T) {
	t.Parallel()
	conn := connect(t, Options{URL: "redis://" + blackHole(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := conn.Check(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v; want ErrUnavailable", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v; want about 200ms", took)
	}
}

func TestCheck_asks_whether_a_silent_server_speaks_TLS(t *testing.T) {
	t.Parallel()
	address := blackHole(t)
	const question = "; does this port speak TLS? else use redis://"
	for name, test := range map[string]struct {
		url    string
		within time.Duration
		asks   bool
	}{
		// Long enough for a busy machine to connect: only then is the server silent.
		"the client gives up": {"rediss://" + address + "?dial_timeout=2s&max_retries=0", time.Minute, true},
		"Check gives up":      {"rediss://" + address + "?dial_timeout=1m", 2 * time.Second, true},
		"without TLS":         {"redis://" + address + "?read_timeout=100ms&max_retries=0", time.Minute, false},
		"refused":             {"rediss://127.0.0.1:1?max_retries=0", time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, Options{URL: test.url})
			ctx, cancel := context.WithTimeout(t.Context(), test.within)
			defer cancel()
			err := conn.Check(ctx)
			if !errors.Is(err, ErrUnavailable) || strings.HasSuffix(err.Error(), question) != test.asks {
				t.Errorf("got %v; is it to ask: %v", err, test.asks)
			}
		})
	}
}

func TestStore_honors_the_callers_deadline_on_a_silent_server(t *testing.T) {
	t.Parallel()
	store := newStore(t, connect(t, Options{URL: "redis://" + blackHole(t)}).Client(), quiet())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := store.Get(ctx, ID("a"))
	if err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v; want about 100ms", took)
	}
}

func TestCheck_tells_that_the_caller_gave_up(t *testing.T) {
	t.Parallel()
	conn := connect(t, Options{URL: "embedded://" + t.Name()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := conn.Check(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v; want context.Canceled", err)
	}
}

func TestCheck_tells_a_wrong_password(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	server.RequireUserAuth("app", "right")
	for name, url := range map[string]string{
		"wrong password": "redis://app:C4n4ry@" + server.Addr(),
		"wrong user":     "redis://other:C4n4ry@" + server.Addr(),
		"none":           "redis://" + server.Addr(),
	} {
		err := connect(t, Options{URL: url}).Check(t.Context())
		if !errors.Is(err, ErrDenied) || errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "C4n4ry") {
			t.Errorf("%s: got %v; want ErrDenied", name, err)
		}
	}
	if err := connect(t, Options{URL: "redis://app:right@" + server.Addr()}).Check(t.Context()); err != nil {
		t.Errorf("the right password: %v", err)
	}
}

func TestConnect_reads_certificates_and_tells_which_it_cannot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		tls  TLSOptions
		says string
	}{
		"no CA file":        {TLSOptions{CAFile: filepath.Join(dir, "none.pem")}, "REDIS_TLS_CA"},
		"no CA in the file": {TLSOptions{CAFile: empty}, "no PEM certificate"},
		"no certificate":    {TLSOptions{CertFile: empty, KeyFile: empty}, "REDIS_TLS_CERT"},
	} {
		_, err := Connect(t.Context(), Options{URL: "rediss://h", TLS: test.tls, Registerer: prometheus.NewRegistry()})
		if !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v; want %s", name, err, test.says)
		}
	}
}

func TestConnect_leaves_the_hosts_client_alone(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	spans := &counting{}
	client.AddHook(spans)
	conn, err := Connect(t.Context(), Options{Client: client, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if conn.Client() != redis.UniversalClient(client) {
		t.Error("it is another client")
	}
	if err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the client was closed: %v", err)
	}
}

func TestEmbedded_is_shared_by_name_and_ends_with_its_last_user(t *testing.T) {
	t.Parallel()
	url := "embedded://" + t.Name()
	one, two, other := connect(t, Options{URL: url}), connect(t, Options{URL: url}), connect(t, Options{URL: url + "-other"})
	for _, conn := range []*Conn{one, two, other} {
		if err := conn.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if one.Endpoint() != url {
		t.Errorf("the endpoint is %s", one.Endpoint())
	}
	set := func(c *Conn, value string) {
		t.Helper()
		if err := c.Client().Set(t.Context(), "k", value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	get := func(c *Conn) string { return c.Client().Get(t.Context(), "k").Val() }
	set(one, "mine")
	if get(two) != "mine" || get(other) != "" {
		t.Fatalf("two has %q and other has %q", get(two), get(other))
	}
	for range 2 { // closing twice gives up one use
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if get(two) != "mine" {
		t.Fatal("the data went with the first user")
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	if again := connect(t, Options{URL: url}); get(again) != "" {
		t.Fatal("the data outlived its last user")
	}
}

// What the environment says of TLS is for another Redis.
func TestEmbedded_is_reached_whatever_TLS_settings_say(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.URL, o.TLS, o.SentinelMaster = "embedded://tls", TLSOptions{Mode: TLSOn, CAFile: "/no/such/file"}, "master"
	conn, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEmbedded_keeps_strangers_out(t *testing.T) {
	t.Parallel()
	conn := connect(t, Options{URL: "embedded://" + t.Name()})
	stranger := redis.NewClient(&redis.Options{Addr: conn.Client().(*redis.Client).Options().Addr, MaxRetries: -1})
	t.Cleanup(func() { _ = stranger.Close() })
	if err := stranger.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a stranger got in")
	}
}

func TestEmbedded_expires_keys_as_time_passes(t *testing.T) {
	t.Parallel()
	conn := connect(t, Options{URL: "embedded://" + t.Name()})
	store := newStore(t, conn.Client(), quiet())
	if _, err := store.Set(t.Context(), Entry{ID: "a", Value: 1, TTL: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := store.Get(t.Context(), ID("a"))
		if errors.Is(err, ErrNotFound) {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("still there: %v", err)
		}
	}
}

func TestEmbedded_takes_large_batches(t *testing.T) {
	t.Parallel()
	conn := connect(t, Options{URL: "embedded://" + t.Name()})
	store := newStore(t, conn.Client(), quiet())
	entries := make([]Entry, 60)
	keys := make([]Key, len(entries))
	for i := range entries {
		id := strings.Repeat("x", i+1)
		entries[i], keys[i] = Entry{ID: id, Workflow: "wf", Value: strings.Repeat("v", 300_000)}, ID(id)
	}
	if _, err := store.Set(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	found, err := newStore(t, conn.Client(), quiet()).GetMany(t.Context(), keys...)
	if err != nil || len(found) != len(keys) {
		t.Fatalf("found %d, %v", len(found), err)
	}
}

func TestEmbedded_starts_and_stops_without_a_trace(t *testing.T) {
	t.Parallel()
	url := "embedded://" + t.Name()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				conn, err := Connect(t.Context(), Options{URL: url, Registerer: prometheus.NewRegistry()})
				if err != nil {
					t.Error(err)
					return
				}
				if err := conn.Check(t.Context()); err != nil {
					t.Error(err)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	embeddedServers.Lock()
	defer embeddedServers.Unlock()
	if _, running := embeddedServers.byName[t.Name()]; running {
		t.Fatal("the server still runs")
	}
}
