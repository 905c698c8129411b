//go:build integration

package redisstate

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func TestStore_behaves_like_a_map_on_redis_server(t *testing.T) {
	t.Parallel()
	for name, format := range modelFormats(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			rapid.Check(t, func(t *rapid.T) {
				ctx := context.Background()
				if err := client.FlushAll(ctx).Err(); err != nil {
					t.Fatal(err)
				}
				checkModel(t, client, format, func(d time.Duration) error { return age(ctx, client, d) })
			})
		})
	}
}
