//go:build integration

package redisstate_test

import (
	"errors"
	"math"
	"sync"
	"testing"

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

// TestSessions_and_Counters_on_every_backend runs both suites on all that we
// support. It says how many cases each backend kept, and all have to be the same.
func TestSessions_and_Counters_on_every_backend(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, redistest.WithUnixSocket(), redistest.WithUser("state", stateRules...))
	encrypted, mutual := redistest.Start(t, redistest.WithTLS()), redistest.Start(t, redistest.WithMutualTLS())
	watched, shards := redistest.StartSentinel(t, redistest.WithSentinelPassword("watch")), redistest.StartCluster(t)
	trusted := redisstate.TLSOptions{CAFile: encrypted.Certificates().CAFile}
	ours := redisstate.TLSOptions{
		CAFile: mutual.Certificates().CAFile, CertFile: mutual.Certificates().ClientCertFile, KeyFile: mutual.Certificates().ClientKeyFile,
	}
	backends := map[string]redisstate.Options{
		"TCP":                  {URL: plain.URL()},
		"unix socket":          {URL: plain.UnixURL()},
		"least-privilege user": {URL: plain.URLFor("state", "state-secret")},
		"TLS":                  {URL: encrypted.URL(), TLS: trusted},
		"mutual TLS":           {URL: mutual.URL(), TLS: ours},
		"Sentinel":             {URL: watched.URL(), SentinelPassword: "watch"},
		"Cluster":              {URL: shards.URL()},
	}
	var mu sync.Mutex
	tallies := make(map[string][]*contract.Tally)
	t.Cleanup(func() { // all cases are over
		for name := range backends {
			if len(tallies[name]) != 2 {
				t.Errorf("%d of 2 suites ran over %s", len(tallies[name]), name)
			}
			for _, tally := range tallies[name] {
				if tally.Kept() != tally.Cases() || tally.Cases() == 0 {
					t.Errorf("%s over %s kept %d of %d cases", tally.Suite(), name, tally.Kept(), tally.Cases())
				}
			}
		}
	})
	for name, options := range backends {
		connect := hosts(t, options)
		note := func(tally *contract.Tally) {
			mu.Lock()
			defer mu.Unlock()
			tallies[name] = append(tallies[name], tally)
		}
		t.Run("Sessions over "+name, func(t *testing.T) {
			t.Parallel()
			note(contract.Sessions(t, func(tb testing.TB) contract.SessionsBackend { return contract.SessionsOnRedis(tb, connect()) }))
		})
		t.Run("Counters over "+name, func(t *testing.T) {
			t.Parallel()
			note(contract.Counters(t, func(tb testing.TB) contract.CountersBackend { return contract.CountersOnRedis(tb, connect()) }))
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
