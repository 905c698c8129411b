//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/rueidis"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/redisstate"
)

// hitRows are reads of configs that this process has read before.
func hitRows() []harness.Row {
	const ours = "1 caller, 1,000 configs of 2 KB read in turn; ours: Typed.Get by ref, answered by the near cache; theirs: "
	return []harness.Row{
		{
			Key: "config_hit_vs_badger", Group: groupConfig, Bar: harness.AtLeast(100),
			How: "throughput, " + ours + "Badger 4.7.0 View, Get and json.Unmarshal into the same struct",
			Run: hit{theirs: badgerHit, outcome: harness.Throughput, plan: decoding}.run,
		},
		{
			Key: "config_hit_vs_rueidis", Group: groupConfig, Bar: harness.AtLeast(80),
			How: "throughput, " + ours + "rueidis DoCache GET, in its client-side cache, and json.Unmarshal into the same struct",
			Run: hit{theirs: rueidisHit, outcome: harness.Throughput, plan: decoding}.run,
		},
		{
			Key: "config_hit_vs_otter", Group: groupConfig, Bar: harness.AtMost(2.5),
			Absolute: "Get by ref, near cache (2 KB, decoded)",
			How:      "p50 of means over 200 reads, " + ours + "GetIfPresent of the decoded value in a bare otter cache",
			Run:      hit{theirs: otterHit, outcome: harness.Latency, plan: harness.Plan{Batch: 200, Turn: 100, Pairs: 10}}.run,
		},
	}
}

// decoding is the plan where the other side decodes, which takes some 30 us a
// read: turns of about 8 ms on either side.
var decoding = harness.Plan{Batch: 10, OursBatch: 2000, Turn: 25, Pairs: 10}

// hit is one of hitRows.
type hit struct {
	theirs  func(ctx context.Context, lab *harness.Lab, e hitFixture) (harness.Op, error)
	outcome func([]harness.Round) harness.Outcome
	plan    harness.Plan
}

// hitFixture is what the peers' sides are made of.
type hitFixture struct {
	url     string // host:port
	configs []*taskconfig.Config
}

func (h hit) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(h.plan)
	server, err := lab.Redis(ctx)
	if err != nil {
		return harness.Outcome{}, err
	}
	store, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: poolSize})
	if err != nil {
		return harness.Outcome{}, err
	}
	configs := taskconfig.Make(lab.Rand(), lab.Size(1000, 20))
	keys, err := saveOurs(ctx, store, configs)
	if err != nil {
		return harness.Outcome{}, err
	}
	client := lab.GoRedis(server, poolSize)
	if err := savePlain(ctx, client, configs); err != nil {
		return harness.Outcome{}, err
	}
	theirs, err := h.theirs(ctx, lab, hitFixture{server.Addr(), configs})
	if err != nil {
		return harness.Outcome{}, err
	}
	ours := redisstate.For[taskconfig.Config](store)
	rounds, err := plan.Compare(ctx, func(ctx context.Context, n int) error {
		_, _, err := ours.Get(ctx, keys[n%len(keys)])
		return err
	}, theirs)
	if err != nil {
		return harness.Outcome{}, err
	}
	return h.outcome(rounds), nil
}

func badgerHit(_ context.Context, lab *harness.Lab, e hitFixture) (harness.Op, error) {
	db, err := openBadger(lab)
	if err != nil {
		return nil, err
	}
	ids := make([][]byte, len(e.configs))
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	for i, c := range e.configs {
		text, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		ids[i] = []byte(c.ID)
		if err := batch.Set(ids[i], text); err != nil {
			return nil, err
		}
	}
	if err := batch.Flush(); err != nil {
		return nil, err
	}
	return func(_ context.Context, n int) error {
		_, err := badgerGet(db, ids[n%len(ids)])
		return err
	}, nil
}

func rueidisHit(ctx context.Context, lab *harness.Lab, e hitFixture) (harness.Op, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{e.url}})
	if err != nil {
		return nil, err
	}
	lab.Defer(func() error { client.Close(); return nil })
	names := make([]string, len(e.configs))
	for i, c := range e.configs {
		names[i] = plainKey(c.ID)
		// The first read fills the cache.
		if err := client.DoCache(ctx, client.B().Get().Key(names[i]).Cache(), time.Hour).Error(); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, n int) error {
		reply := client.DoCache(ctx, client.B().Get().Key(names[n%len(names)]).Cache(), time.Hour)
		if !reply.IsCacheHit() {
			return errors.New("rueidis did not have it in its cache")
		}
		return reply.DecodeJSON(new(taskconfig.Config))
	}, nil
}

func otterHit(_ context.Context, _ *harness.Lab, e hitFixture) (harness.Op, error) {
	cache, err := otter.New(&otter.Options[string, *taskconfig.Config]{MaximumSize: 10 * len(e.configs)})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(e.configs))
	for i, c := range e.configs {
		ids[i] = c.ID
		cache.Set(c.ID, c)
	}
	return func(_ context.Context, n int) error {
		if _, ok := cache.GetIfPresent(ids[n%len(ids)]); !ok {
			return errors.New("otter did not have it")
		}
		return nil
	}, nil
}
