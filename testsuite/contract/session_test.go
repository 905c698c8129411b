package contract

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// embedded makes clients of one embedded Redis.
func embedded(tb testing.TB) func(testing.TB) redis.UniversalClient {
	tb.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	return func(tb testing.TB) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
		tb.Cleanup(func() { _ = client.Close() })
		return client
	}
}

func TestSessions_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	Sessions(t, func(tb testing.TB) SessionsBackend { return SessionsOnRedis(tb, embedded(tb)) })
}

func TestCounters_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	Counters(t, func(tb testing.TB) CountersBackend { return CountersOnRedis(tb, embedded(tb)) })
}
