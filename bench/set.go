//go:build unix

package main

import (
	"context"
	"encoding/json"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// setRows are writes of new configs, one a call, a hundred a workflow.
func setRows() []harness.Row {
	const ours = "ours: Typed.Set of a new 2 KB config for its workflow (canonical JSON, digest, index, TTL, near cache)"
	return []harness.Row{
		{
			Key: "config_set_vs_goredis", Group: groupConfig, Bar: harness.AtMost(1.40),
			Absolute: "Set (2 KB, with index)",
			How:      "p50, 1 caller; " + ours + "; theirs: json.Marshal of the same struct and go-redis SET EX; same server and pool, nothing persisted",
			Run:      set{}.run,
		},
		{
			Key: "config_set_vs_goredis_bytes", Group: groupConfig,
			How: "p50, 1 caller; " + ours + "; theirs: go-redis SET EX of bytes marshalled before; same server and pool, nothing persisted",
			Run: set{marshalled: true}.run,
		},
		{
			Key: "config_set_vs_goredis_aof", Group: groupConfig,
			Absolute: "Set (2 KB, with index), appendfsync everysec",
			How:      "config_set_vs_goredis on a server with appendonly yes, appendfsync everysec",
			Run:      set{server: everySecond()}.run,
		},
	}
}

// everySecond is what production servers use: a crash of the machine costs a
// second.
func everySecond() []redistest.Option {
	return []redistest.Option{redistest.WithConfig("appendonly", "yes"), redistest.WithConfig("appendfsync", "everysec")}
}

// set is one of setRows.
type set struct {
	server     []redistest.Option
	marshalled bool // their side gets bytes
}

func (s set) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(harness.Plan{Turn: 40, Pairs: 30})
	server, err := lab.Redis(ctx, s.server...)
	if err != nil {
		return harness.Outcome{}, err
	}
	store, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: poolSize})
	if err != nil {
		return harness.Outcome{}, err
	}
	client := lab.GoRedis(server, poolSize)
	f, err := newFresh(lab, plan.Operations(), s.marshalled)
	if err != nil {
		return harness.Outcome{}, err
	}
	rounds, err := plan.Compare(ctx, f.ours(store), func(ctx context.Context, n int) error {
		text, err := f.text(n)
		if err != nil {
			return err
		}
		return client.Set(ctx, f.names[n], text, ttl).Err()
	})
	if err != nil {
		return harness.Outcome{}, err
	}
	return harness.Latency(rounds), nil
}

// fresh are the configs that a row of writes writes, each once. Each side gets
// its own, with the same sizes.
type fresh struct {
	mine, theirs []*taskconfig.Config
	workflows    []string
	names        []string // their keys
	texts        [][]byte // theirs in JSON, if asked for
}

func newFresh(lab *harness.Lab, n int, marshalled bool) (*fresh, error) {
	r := lab.Rand()
	kinds := taskconfig.Make(r, lab.Size(templates, 20))
	f := &fresh{mine: taskconfig.Copies(r, kinds, n), theirs: taskconfig.Copies(r, kinds, n)}
	for i, c := range f.theirs {
		f.workflows = append(f.workflows, workflow(i))
		f.names = append(f.names, plainKey(c.ID))
		if marshalled {
			text, err := json.Marshal(c)
			if err != nil {
				return nil, err
			}
			f.texts = append(f.texts, text)
		}
	}
	return f, nil
}

// text is the JSON of their n-th config.
func (f *fresh) text(n int) ([]byte, error) {
	if f.texts != nil {
		return f.texts[n], nil
	}
	return json.Marshal(f.theirs[n])
}

// ours is our side of every row of writes.
func (f *fresh) ours(store *redisstate.Store) harness.Op {
	configs := redisstate.For[taskconfig.Config](store)
	return func(ctx context.Context, n int) error {
		c := f.mine[n]
		_, err := configs.Set(ctx, f.workflows[n], c.ID, c)
		return err
	}
}
