//go:build unix

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/redisstate"
)

// memoryRows are about what a config costs in Redis.
func memoryRows() []harness.Row {
	const theirs = "; theirs: SET EX of its JSON; used_memory before and after, of two servers, all overhead and our index included"
	return []harness.Row{
		{
			Key: "memory_vs_json", Group: groupConfig, Bar: harness.AtMost(0.5),
			How: "Redis bytes per 2 KB config; ours: Store.Set with Compression zstd" + theirs,
			Run: memory{redisstate.Options{Compression: redisstate.CompressionZstd}}.run,
		},
		{
			Key: "memory_vs_json_uncompressed", Group: groupConfig,
			How: "Redis bytes per 2 KB config; ours: Store.Set without compression" + theirs,
			Run: memory{}.run,
		},
	}
}

// memory is one of memoryRows.
type memory struct{ options redisstate.Options }

// memorySample is one round: bytes per config.
type memorySample struct {
	Ours   float64 `json:"ours_bytes"`
	Theirs float64 `json:"theirs_bytes"`
}

// run measures bytes, which do not depend on who else uses the machine: a round
// is other configs, not another try.
func (m memory) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	r := lab.Rand()
	var samples []memorySample
	for range lab.Rounds() {
		configs := taskconfig.Make(r, lab.Size(10_000, 200))
		s, err := m.round(ctx, lab, configs)
		if err != nil {
			return harness.Outcome{}, err
		}
		samples = append(samples, s)
	}
	ours := func(s memorySample) float64 { return s.Ours }
	theirs := func(s memorySample) float64 { return s.Theirs }
	return harness.Sizes(samples, ours, theirs), nil
}

func (m memory) round(ctx context.Context, lab *harness.Lab, configs []*taskconfig.Config) (s memorySample, err error) {
	err = lab.Within(func(lab *harness.Lab) error {
		server, err := lab.Redis(ctx)
		if err != nil {
			return err
		}
		store, err := openStore(ctx, lab, server, m.options)
		if err != nil {
			return err
		}
		s.Ours, err = perConfig(ctx, lab.GoRedis(server, 1), len(configs), func() error {
			_, err := saveOurs(ctx, store, configs)
			return err
		})
		return err
	})
	if err != nil {
		return s, err
	}
	err = lab.Within(func(lab *harness.Lab) error {
		server, err := lab.Redis(ctx)
		if err != nil {
			return err
		}
		client := lab.GoRedis(server, 1)
		s.Theirs, err = perConfig(ctx, client, len(configs), func() error { return savePlain(ctx, client, configs) })
		return err
	})
	return s, err
}

// perConfig is how much a server's memory grew by save, per config. The client
// is connected before.
func perConfig(ctx context.Context, client *redis.Client, n int, save func() error) (float64, error) {
	before, err := usedMemory(ctx, client)
	if err != nil {
		return 0, err
	}
	if err := save(); err != nil {
		return 0, err
	}
	after, err := usedMemory(ctx, client)
	return float64(after-before) / float64(n), err
}

// usedMemory is what the data takes: used_memory without the clients' buffers
// that come and go.
func usedMemory(ctx context.Context, client *redis.Client) (int64, error) {
	info := client.InfoMap(ctx, "memory")
	if err := info.Err(); err != nil {
		return 0, err
	}
	used, err := strconv.ParseInt(info.Item("Memory", "used_memory"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO memory: %w", err)
	}
	clients, err := strconv.ParseInt(info.Item("Memory", "mem_clients_normal"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO memory: %w", err)
	}
	return used - clients, nil
}
