//go:build integration

package redisstate_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

// dial connects as a host does, and closes with the test.
func dial(tb testing.TB, o redisstate.Options) redis.UniversalClient {
	tb.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	conn, err := redisstate.Connect(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := conn.Check(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return conn.Client()
}

// workerRules is all that a Redis user needs for configs and metadata.
var workerRules = []string{
	"on", ">worker-secret", "resetkeys", "~contract:*:config:*", "~contract:*:index:*", "~contract:*:metadata:*", "resetchannels", "-@all",
	"+ping", "+get", "+getrange", "+set", "+pexpire", "+pttl", "+exists", "+del", "+sadd", "+srem", "+sscan", "+scan",
	"+multi", "+exec", "+watch", "+unwatch",
	// what the suite itself does to age, damage and flush
	"+rpush",
}

func TestConfigStore_on_redis_server(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, redistest.WithUnixSocket(), redistest.WithPassword("p/@:w"), redistest.WithUser("worker", workerRules...))
	encrypted := redistest.Start(t, redistest.WithTLS())
	mutual := redistest.Start(t, redistest.WithMutualTLS(), redistest.WithPassword("secret"))
	for name, options := range map[string]redisstate.Options{
		"TCP":                  {URL: plain.URL()},
		"unix socket":          {URL: plain.UnixURL()},
		"least-privilege user": {URL: plain.URLFor("worker", "worker-secret")},
		"TLS":                  {URL: encrypted.URL(), TLS: redisstate.TLSOptions{CAFile: encrypted.Certificates().CAFile}},
		"mutual TLS": {URL: mutual.URL(), TLS: redisstate.TLSOptions{
			CAFile: mutual.Certificates().CAFile, CertFile: mutual.Certificates().ClientCertFile, KeyFile: mutual.Certificates().ClientKeyFile,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.ConfigStore(t, func(tb testing.TB) contract.ConfigStoreBackend {
				return contract.ConfigStoreOnRedis(tb, func(tb testing.TB) redis.UniversalClient { return dial(tb, options) })
			})
		})
	}
}

func TestCheck_tells_why_a_TLS_server_is_out_of_reach(t *testing.T) {
	t.Parallel()
	encrypted, mutual, plain := redistest.Start(t, redistest.WithTLS()), redistest.Start(t, redistest.WithMutualTLS()), redistest.Start(t)
	for name, test := range map[string]struct {
		o    redisstate.Options
		want error
	}{
		"an authority that is not ours": {redisstate.Options{URL: encrypted.URL()}, redisstate.ErrDenied},
		"another name": {redisstate.Options{URL: encrypted.URL(), TLS: redisstate.TLSOptions{
			CAFile: encrypted.Certificates().CAFile, ServerName: "redis.example.com",
		}}, redisstate.ErrDenied},
		"no client certificate": {redisstate.Options{URL: mutual.URL(), TLS: redisstate.TLSOptions{CAFile: mutual.Certificates().CAFile}}, redisstate.ErrDenied},
		// A plain server waits for the end of what it takes for a command.
		"TLS to a plain server": {redisstate.Options{URL: "rediss://" + plain.Addr(), DialTimeout: time.Second}, redisstate.ErrUnavailable},
		"plain to a TLS server": {redisstate.Options{URL: "redis://" + encrypted.Addr()}, redisstate.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.o.Registerer = prometheus.NewRegistry()
			conn, err := redisstate.Connect(t.Context(), test.o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.Check(t.Context()); !errors.Is(err, test.want) {
				t.Fatalf("got %v; want %v", err, test.want)
			}
		})
	}
}

func open(t *testing.T, client redis.UniversalClient) *redisstate.Store {
	t.Helper()
	store, err := redisstate.NewStore(client, redisstate.Options{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestSet_tells_that_the_user_may_not_write(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("reader", "on", ">secret", "~*", "+@read", "+ping", "+multi", "+exec"))
	store := open(t, dial(t, redisstate.Options{URL: server.URLFor("reader", "secret")}))
	_, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1})
	if !errors.Is(err, redisstate.ErrDenied) || errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrDenied", err)
	}
	if _, err := store.Get(t.Context(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrNotFound) {
		t.Fatalf("got %v; want ErrNotFound", err)
	}
}

func TestSet_tells_that_Redis_is_full_and_writes_nothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, redisstate.Options{URL: server.URL()})
	store := open(t, client)
	kept, err := store.Set(t.Context(), redisstate.Entry{ID: "kept", Workflow: "wf", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	control := server.ControlClient(t)
	if err := control.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1}, redisstate.Entry{ID: "kept", Workflow: "wf", Value: 2})
	if !errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	if err := control.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	reader := open(t, client)
	if config, err := reader.Get(t.Context(), kept[0].Key()); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("kept gave %s, %v", config.JSON(), err)
	}
	for key, err := range reader.Scan(t.Context(), redisstate.Scope{}) {
		if err != nil || key.ID != "kept" {
			t.Fatalf("listed %v, %v", key, err)
		}
	}
}

func TestStore_goes_on_after_the_server_was_killed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPersistence())
	client := dial(t, redisstate.Options{URL: server.URL()})
	store := open(t, client)
	refs, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := store.Get(t.Context(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	if config, err := store.Get(t.Context(), refs[0].Key()); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("a ref that was read here gave %s, %v without Redis", config.JSON(), err)
	}
	server.MustRestart(t)
	if config, err := store.Get(t.Context(), redisstate.ID("a")); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("after the restart: %s, %v", config.JSON(), err)
	}
}
