//go:build integration

package redisstate

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func TestSession_behaves_like_a_map_on_redis_server(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		if err := client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		checkSessionModel(t, client, func(d time.Duration) error { return age(ctx, client, d) })
	})
}

func TestCounters_never_count_twice_when_redis_server_loses_answers(t *testing.T) {
	t.Parallel()
	countsOnce(t, redistest.Start(t).Addr())
}
