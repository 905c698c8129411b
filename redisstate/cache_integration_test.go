//go:build integration

package redisstate

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestCache_never_gives_what_was_there_before_a_change_returned_on_redis_server(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string][]any{
		"without faults":               nil,
		"whose connections are killed": {"client", "kill", "type", "normal", "skipme", "no"},
		"that is flushed":              {"flushall"},
		"that lets writes wait":        {"client", "pause", "50", "write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachShape(t, func(t *testing.T, inParts bool) {
				server := redistest.Start(t)
				var then func()
				if fault != nil {
					control := server.Client(t)
					// Killing all connections kills the one that asks for it.
					then = func() { _ = control.Do(t.Context(), fault...).Err() }
				}
				historyOf(t, inParts, []redis.UniversalClient{server.Client(t), server.Client(t)}).run(then, name == "that is flushed")
			})
		})
	}
}

// A user with no more rights than docs/operations.md says.
func TestCache_with_least_privilege(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("worker", "on", ">worker-secret", "resetkeys", "~temporal-redis:*", "resetchannels", "-@all",
		"+ping", "+get", "+set", "+pexpire", "+del", "+zadd", "+zremrangebyscore", "+zrem", "+multi", "+exec", "+watch", "+unwatch",
		"+mget", "+zcount", "+hset", "+hget", "+hgetall", "+hdel", "+hexists"))
	conn, err := Connect(t.Context(), Options{URL: server.URLFor("worker", "worker-secret")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	eachShape(t, func(t *testing.T, inParts bool) {
		h := historyOf(t, inParts, []redis.UniversalClient{conn.Client()})
		h.run(nil, false)
		for _, c := range h.caches {
			if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnconfirmed)); n != 0 {
				t.Errorf("Redis did not take %v ends of changes", n)
			}
		}
	})
}

func TestCache_never_gives_what_was_there_before_a_change_returned_on_Cluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	var clients []redis.UniversalClient
	for range 2 {
		conn, err := Connect(t.Context(), Options{URL: cluster.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients = append(clients, conn.Client())
	}
	eachShape(t, func(t *testing.T, inParts bool) { historyOf(t, inParts, clients).run(nil, false) })
}
