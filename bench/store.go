//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// Pools, the same on both sides: our default, and one that never makes any of
// many callers wait for a connection.
const (
	poolSize  = redisstate.DefaultPoolSize
	manyCalls = 64
)

// ttl is what both sides give a config to live.
const ttl = redisstate.DefaultTTL

// ourPrefix starts our keys of configs.
const ourPrefix = "temporal-redis:config:"

// templates is the number of different configs of which rows make copies.
const templates = 2000

// batchSize is what fixtures are written by.
const batchSize = 500

// openStore makes our side: a client and a store as the plugin makes them, with
// metrics and the slow-operation log on and tracing as it is without an exporter.
func openStore(ctx context.Context, lab *harness.Lab, server *redistest.Server, o redisstate.Options) (*redisstate.Store, error) {
	side, err := openSide(ctx, lab, server, o)
	return side.store, err
}

// side is our side with what it was made of.
type side struct {
	conn     *redisstate.Conn
	store    *redisstate.Store
	options  redisstate.Options
	registry *prometheus.Registry
}

func openSide(ctx context.Context, lab *harness.Lab, server *redistest.Server, o redisstate.Options) (s side, err error) {
	s.registry = prometheus.NewRegistry()
	o.URL, o.Logger, o.Registerer = server.URL(), slog.New(slog.DiscardHandler), s.registry
	s.options = o
	if s.conn, err = redisstate.Connect(ctx, o); err != nil {
		return s, err
	}
	lab.Defer(s.conn.Close)
	if s.store, err = redisstate.NewStore(s.conn.Client(), o); err != nil {
		return s, err
	}
	lab.Defer(s.store.Close)
	return s, nil
}

// saveOurs saves configs, 100 a workflow, and returns their pinned keys.
func saveOurs(ctx context.Context, store *redisstate.Store, configs []*taskconfig.Config) ([]redisstate.Key, error) {
	keys := make([]redisstate.Key, 0, len(configs))
	for first := 0; first < len(configs); first += batchSize {
		var entries []redisstate.Entry
		for i, c := range configs[first:min(first+batchSize, len(configs))] {
			entries = append(entries, redisstate.Entry{ID: c.ID, Workflow: workflow(first + i), Value: c})
		}
		refs, err := store.Set(ctx, entries...)
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			keys = append(keys, ref.Key())
		}
	}
	return keys, nil
}

// workflow is the id of the workflow of the n-th config.
func workflow(n int) string { return fmt.Sprintf("workflow-%05d", n/100) }

// plainKey is a peer's key of a config.
func plainKey(id string) string { return "config:" + id }

// savePlain saves configs as a peer does: JSON under a key, with the same TTL.
func savePlain(ctx context.Context, client *redis.Client, configs []*taskconfig.Config) error {
	for first := 0; first < len(configs); first += batchSize {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, c := range configs[first:min(first+batchSize, len(configs))] {
				text, err := json.Marshal(c)
				if err != nil {
					return err
				}
				p.Set(ctx, plainKey(c.ID), text, ttl)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countingCodec is encoding/json and counts what it decodes, to prove that a
// miss is one.
type countingCodec struct{ decoded atomic.Int64 }

func (*countingCodec) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

func (c *countingCodec) Unmarshal(data []byte, v any) error {
	c.decoded.Add(1)
	return json.Unmarshal(data, v)
}

// commandCalls is how often a server executed a command since it started.
func commandCalls(ctx context.Context, client *redis.Client, command string) (int, error) {
	info := client.InfoMap(ctx, "commandstats")
	if err := info.Err(); err != nil {
		return 0, err
	}
	var calls int
	_, err := fmt.Sscanf(info.Item("Commandstats", "cmdstat_"+command), "calls=%d,", &calls)
	return calls, err
}
