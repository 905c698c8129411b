//go:build integration

package redisstate_test

import (
	"errors"
	"math"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

// stateRules is all that a Redis user needs for sessions and counters.
var stateRules = []string{
	"on", ">state-secret", "resetkeys", "~contract:*:session:*", "~contract:*:@counters", "~contract:*:@gauges", "resetchannels", "-@all",
	"+ping", "+hset", "+hget", "+hgetall", "+hdel", "+hexists", "+hlen", "+hincrby", "+hincrbyfloat", "+pexpire", "+pttl", "+del",
	"+multi", "+exec",
	// what the suites themselves do to age, damage and flush
	"+scan", "+rpush",
}

func TestSessions_and_Counters_on_redis_server(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, redistest.WithUser("state", stateRules...))
	encrypted := redistest.Start(t, redistest.WithTLS())
	for name, options := range map[string]redisstate.Options{
		"TCP":                  {URL: plain.URL()},
		"least-privilege user": {URL: plain.URLFor("state", "state-secret")},
		"TLS":                  {URL: encrypted.URL(), TLS: redisstate.TLSOptions{CAFile: encrypted.Certificates().CAFile}},
	} {
		connect := func(tb testing.TB) redis.UniversalClient { return dial(tb, options) }
		t.Run("Sessions over "+name, func(t *testing.T) {
			t.Parallel()
			contract.Sessions(t, func(tb testing.TB) contract.SessionsBackend { return contract.SessionsOnRedis(tb, connect) })
		})
		t.Run("Counters over "+name, func(t *testing.T) {
			t.Parallel()
			contract.Counters(t, func(tb testing.TB) contract.CountersBackend { return contract.CountersOnRedis(tb, connect) })
		})
	}
}

// Embedded Redis wraps around, so this is no case of the contract.
func TestCounters_do_not_wrap_around_on_redis_server(t *testing.T) {
	t.Parallel()
	counters, err := redisstate.NewCounters(redistest.Start(t).Client(t), redisstate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := counters.Incr(t.Context(), "a", math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	_, err = counters.Incr(t.Context(), "a", 1)
	if err == nil || errors.Is(err, redisstate.ErrUnavailable) || errors.Is(err, redisstate.ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	if now, err := counters.Snapshot(t.Context()); err != nil || now.Counters["a"] != math.MaxInt64 {
		t.Fatalf("got %v, %v", now, err)
	}
}
