//go:build integration

package redisstate

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func TestCache_never_gives_what_was_there_before_a_change_returned_on_redis_server(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string][]any{
		"without faults":                 nil,
		"whose connections are killed":   {"client", "kill", "type", "normal", "skipme", "no"},
		"that is flushed":                {"flushall"},
		"that refuses writes for a time": {"client", "pause", "50", "write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			var then func()
			if fault != nil {
				control := server.Client(t)
				// Killing all connections kills the one that asks for it.
				then = func() { _ = control.Do(t.Context(), fault...).Err() }
			}
			checkCacheHistory(t, []redis.UniversalClient{server.Client(t), server.Client(t)}, then)
		})
	}
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
	checkCacheHistory(t, clients, nil)
}
