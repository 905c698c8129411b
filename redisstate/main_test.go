package redisstate

import (
	"log/slog"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }

// quiet are options whose telemetry stays in the test.
func quiet() Options {
	return Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
}

// newServer is a Redis whose time moves by FastForward.
func newServer(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	server := mini.Start(t)
	return server
}

func newClient(t testing.TB, server *miniredis.Miniredis) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newStore(t testing.TB, client redis.UniversalClient, o Options) *Store {
	t.Helper()
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	store, err := NewStore(client, o)
	if err != nil {
		t.Fatal(err)
	}
	store.tidies = func() bool { return false } // no test is left to chance
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// doc is a config of the tests.
type doc struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}
