package redisstate_test

import (
	"context"
	"fmt"

	"github.com/compozy/temporal-redis/redisstate"
)

// A row of the host's database, read through Redis and changed in a transaction.
func ExampleCache() {
	ctx := context.Background()
	conn, err := redisstate.Connect(ctx, redisstate.Options{URL: "embedded://example-cache"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	type state struct{ Status string }
	table := map[string]state{"exec-1": {"RUNNING"}} // PostgreSQL, say
	cache, err := redisstate.NewCache(conn.Client(), redisstate.CacheOptions[state]{
		Kind: "workflow",
		Load: func(_ context.Context, id string) (state, error) {
			fmt.Println("loads", id)
			return table[id], nil
		},
	}, redisstate.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = cache.Close() }()
	for range 2 {
		s, err := cache.Get(ctx, "exec-1")
		fmt.Println(s.Status, err)
	}
	err = cache.Change(ctx, []string{"exec-1"}, func(context.Context) (map[string]state, error) {
		table["exec-1"] = state{"SUCCESS"} // BEGIN, UPDATE, COMMIT
		return map[string]state{"exec-1": table["exec-1"]}, nil
	})
	s, getErr := cache.Get(ctx, "exec-1")
	fmt.Println(s.Status, err, getErr)
	// Output:
	// loads exec-1
	// RUNNING <nil>
	// RUNNING <nil>
	// SUCCESS <nil> <nil>
}
