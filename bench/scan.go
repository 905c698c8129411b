//go:build unix

package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/redisstate"
)

// scanRows list the configs of a workflow.
func scanRows() []harness.Row {
	return []harness.Row{{
		Key: "scan_workflow_vs_scan", Group: groupConfig, Bar: harness.AtLeast(300),
		How: "their p50 / our p50, 1 caller, the 100 configs of one of 1,000 workflows among 100,000 keys of one server; " +
			"ours: Store.Scan by workflow, whose index says until when each lives; theirs: go-redis SCAN COUNT 1000 MATCH on names that carry the workflow",
		Run: scan,
	}}
}

// perWorkflow is how many configs a workflow has.
const perWorkflow = 100

func scan(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(harness.Plan{Turn: 8, Pairs: 2})
	server, err := lab.Redis(ctx)
	if err != nil {
		return harness.Outcome{}, err
	}
	store, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: poolSize, NearCacheBytes: -1})
	if err != nil {
		return harness.Outcome{}, err
	}
	client := lab.GoRedis(server, poolSize)
	workflows := lab.Size(1000, 5)
	for w := range workflows {
		entries := make([]redisstate.Entry, perWorkflow)
		for i := range entries {
			// Sizes are nothing to either side: neither reads a value.
			entries[i] = redisstate.Entry{ID: fmt.Sprintf("%s.task-%03d", scanned(w), i), Workflow: scanned(w), Value: i}
		}
		if _, err := store.Set(ctx, entries...); err != nil {
			return harness.Outcome{}, err
		}
	}
	r := lab.Rand()
	wanted := make([]string, plan.Operations())
	for i := range wanted {
		wanted[i] = scanned(r.IntN(workflows))
	}
	rounds, err := plan.Compare(ctx,
		func(ctx context.Context, n int) error {
			found := 0
			for _, err := range store.Scan(ctx, redisstate.Scope{Workflow: wanted[n]}) {
				if err != nil {
					return err
				}
				found++
			}
			return allFound(found)
		},
		func(ctx context.Context, n int) error {
			found, err := scanByPattern(ctx, client, ourPrefix+wanted[n]+".*")
			if err != nil {
				return err
			}
			return allFound(found)
		})
	if err != nil {
		return harness.Outcome{}, err
	}
	return harness.Speedup(rounds), nil
}

// scanned is the id of a workflow; none is the start of another.
func scanned(w int) string { return fmt.Sprintf("workflow-%04d", w) }

func allFound(n int) error {
	if n != perWorkflow {
		return fmt.Errorf("found %d configs, want %d", n, perWorkflow)
	}
	return nil
}

// scanByPattern counts the different keys that match.
func scanByPattern(ctx context.Context, client *redis.Client, pattern string) (int, error) {
	found := make(map[string]bool, perWorkflow)
	for cursor := uint64(0); ; {
		names, next, err := client.Scan(ctx, cursor, pattern, 1000).Result()
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			found[name] = true
		}
		if next == 0 {
			return len(found), nil
		}
		cursor = next
	}
}
