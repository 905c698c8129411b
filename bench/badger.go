//go:build unix

package main

import (
	"context"
	"encoding/json"

	"github.com/dgraph-io/badger/v4"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// badgerRows are writes against what Compozy used before.
func badgerRows() []harness.Row {
	const sides = "throughput, 64 callers; ours: Typed.Set, one config a call, on a pool of 64; " +
		"theirs: json.Marshal and Badger 4.7.0 Update with SyncWrites, as Compozy opened it; new 2 KB configs, one disk; our server has "
	always := []redistest.Option{redistest.WithPersistence()}
	return []harness.Row{
		{
			Key: "config_set_vs_badger_sync", Group: groupConfig, Bar: harness.AtLeast(8),
			How: sides + "appendonly yes, appendfsync everysec",
			Run: badgerSet{server: everySecond()}.run,
		},
		{
			Key: "config_set_vs_badger_sync_always", Group: groupConfig,
			How: sides + "appendonly yes, appendfsync always, which is as durable as theirs",
			Run: badgerSet{server: always}.run,
		},
		{
			Key: "config_set_vs_badger_sync_volatile", Group: groupConfig,
			How: sides + "no persistence",
			Run: badgerSet{}.run,
		},
	}
}

// badgerSet is one of badgerRows.
type badgerSet struct{ server []redistest.Option }

func (s badgerSet) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(harness.Plan{Callers: manyCalls, Turn: 640, Pairs: 2})
	server, err := lab.Redis(ctx, s.server...)
	if err != nil {
		return harness.Outcome{}, err
	}
	store, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: manyCalls})
	if err != nil {
		return harness.Outcome{}, err
	}
	db, err := openBadger(lab)
	if err != nil {
		return harness.Outcome{}, err
	}
	f, err := newFresh(lab, plan.Operations(), false)
	if err != nil {
		return harness.Outcome{}, err
	}
	rounds, err := plan.Compare(ctx, f.ours(store), func(_ context.Context, n int) error {
		text, err := json.Marshal(f.theirs[n])
		if err != nil {
			return err
		}
		return db.Update(func(tx *badger.Txn) error { return tx.Set([]byte(f.theirs[n].ID), text) })
	})
	if err != nil {
		return harness.Outcome{}, err
	}
	return harness.Throughput(rounds), nil
}

// openBadger opens a database as Compozy did.
func openBadger(lab *harness.Lab) (*badger.DB, error) {
	dir, err := lab.Dir()
	if err != nil {
		return nil, err
	}
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	lab.Defer(db.Close)
	return db, nil
}

// badgerGet reads and decodes one config.
func badgerGet(db *badger.DB, id []byte) (*taskconfig.Config, error) {
	c := new(taskconfig.Config)
	return c, db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(id)
		if err != nil {
			return err
		}
		return item.Value(func(text []byte) error { return json.Unmarshal(text, c) })
	})
}
