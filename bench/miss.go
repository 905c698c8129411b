//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/redisstate"
)

// missRows are reads that Redis has to answer.
func missRows() []harness.Row {
	const theirs = "; theirs: go-redis GET and json.Unmarshal into the same struct; 2 KB, same server, pool and struct, each read of another config"
	return []harness.Row{
		{
			Key: "config_miss_vs_goredis", Group: groupConfig, Bar: harness.AtMost(1.10),
			Absolute: "Get by ref, from Redis (2 KB, decoded)",
			How:      "p50, 1 caller; ours: Typed.Get by ref without near cache (GET, SHA-256 verified, decoded)" + theirs,
			Run:      miss{callers: 1, pinned: true, outcome: harness.Latency}.run,
		},
		{
			Key: "config_miss_by_id_vs_goredis", Group: groupConfig,
			Absolute: "Get by id, from Redis (2 KB, decoded)",
			How:      "p50, 1 caller; ours: Typed.Get by id without near cache (GET, SHA-256 verified, decoded)" + theirs,
			Run:      miss{callers: 1, outcome: harness.Latency}.run,
		},
		{
			Key: "config_miss64_vs_goredis", Group: groupConfig, Bar: harness.AtLeast(2),
			How: "throughput, 64 callers on a pool of 64; ours: Typed.Get by ref without near cache" + theirs,
			Run: miss{callers: manyCalls, pinned: true, outcome: harness.Throughput}.run,
		},
	}
}

// miss is one of missRows.
type miss struct {
	callers int
	pinned  bool
	outcome func([]harness.Round) harness.Outcome
}

func (m miss) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(harness.Plan{Turn: 40, Pairs: 30})
	if m.callers > 1 {
		plan = lab.Plan(harness.Plan{Callers: m.callers, Turn: 640, Pairs: 10})
	}
	server, err := lab.Redis(ctx)
	if err != nil {
		return harness.Outcome{}, err
	}
	pool := max(poolSize, m.callers)
	codec := &countingCodec{}
	store, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: pool, NearCacheBytes: -1, Codec: codec})
	if err != nil {
		return harness.Outcome{}, err
	}
	client := lab.GoRedis(server, pool)

	// Nothing is read twice in a round, and rounds start with a collection: what
	// was decoded is gone by the next time, so that every read decodes.
	configs := taskconfig.Make(lab.Rand(), plan.PerRound())
	keys, err := saveOurs(ctx, store, configs)
	if err != nil {
		return harness.Outcome{}, err
	}
	if err := savePlain(ctx, client, configs); err != nil {
		return harness.Outcome{}, err
	}
	names := make([]string, len(configs))
	for i, c := range configs {
		names[i] = plainKey(c.ID)
		if !m.pinned {
			keys[i] = redisstate.ID(c.ID)
		}
	}

	ours := redisstate.For[taskconfig.Config](store)
	rounds, err := plan.Compare(ctx,
		func(ctx context.Context, n int) error {
			_, _, err := ours.Get(ctx, keys[n%len(keys)])
			return err
		},
		func(ctx context.Context, n int) error {
			raw, err := client.Get(ctx, names[n%len(names)]).Bytes()
			if err != nil {
				return err
			}
			return json.Unmarshal(raw, new(taskconfig.Config))
		})
	if err != nil {
		return harness.Outcome{}, err
	}
	if decoded := codec.decoded.Load(); decoded != int64(plan.Operations()) {
		return harness.Outcome{}, fmt.Errorf("%d reads decoded %d times: they were no misses", plan.Operations(), decoded)
	}
	switch calls, err := commandCalls(ctx, client, "get"); {
	case err != nil:
		return harness.Outcome{}, err
	case calls != 2*plan.Operations():
		return harness.Outcome{}, fmt.Errorf("%d reads on two sides made %d GETs", plan.Operations(), calls)
	}
	return m.outcome(rounds), nil
}
