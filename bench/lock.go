//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/locking"
)

// groupLock is the group of everything about leases.
const groupLock = "lock"

// lockTTL is the life of a lease on either side.
const lockTTL = 30 * time.Second

// lockRows are leases that nobody else wants: taken and given back.
func lockRows() []harness.Row {
	const ours = "ours: Manager.Acquire and Lease.Release (fenced, renewed while held, metered) of one of 100 resources"
	return []harness.Row{
		{
			Key: "lock_1_vs_redislock", Group: groupLock, Bar: harness.AtMost(1.15),
			Absolute: "lease taken and given back, 1 master",
			How:      "p50, 1 caller; " + ours + "; theirs: redislock Obtain and Release; the same server and pool",
			Run:      lock{masters: 1, theirs: redislockSide}.run,
		},
		{
			Key: "lock_3_vs_redsync", Group: groupLock, Bar: harness.AtMost(0.95),
			Absolute: "lease taken and given back, 3 masters",
			How:      "p50, 1 caller, 3 masters; " + ours + "; theirs: redsync LockContext and UnlockContext with its defaults; the same servers and pools",
			Run:      lock{masters: 3, theirs: redsyncSide}.run,
		},
		{
			Key: "lock_5_vs_redsync", Group: groupLock, Bar: harness.AtMost(0.90),
			How: "lock_3_vs_redsync with 5 masters",
			Run: lock{masters: 5, theirs: redsyncSide}.run,
		},
		{
			Key: "lock_3_16way_vs_redsync", Group: groupLock, Bar: harness.AtLeast(2),
			How: "leases per second, 16 callers, 3 masters; " + ours + ", each caller's own; theirs: redsync with its defaults; the same servers and pools",
			Run: lock{masters: 3, callers: 16, theirs: redsyncSide}.run,
		},
	}
}

// lock is one of lockRows.
type lock struct {
	masters, callers int
	theirs           func(clients []redis.UniversalClient) lockSide
}

// lockSide takes a lease and gives it back.
type lockSide func(ctx context.Context, resource string) error

func (l lock) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := harness.Plan{Turn: 40, Pairs: 20}
	if l.callers > 1 {
		plan = harness.Plan{Callers: l.callers, Turn: 640, Pairs: 4}
	}
	plan = lab.Plan(plan)
	var clients []redis.UniversalClient
	for range l.masters {
		server, err := lab.Redis(ctx)
		if err != nil {
			return harness.Outcome{}, err
		}
		clients = append(clients, lab.GoRedis(server, poolSize))
	}
	ours, err := ourLocks(lab, clients)
	if err != nil {
		return harness.Outcome{}, err
	}
	name := func(side string, n int) string { return side + strconv.Itoa(n%100) }
	theirs := l.theirs(clients)
	rounds, err := plan.Compare(ctx,
		func(ctx context.Context, n int) error { return ours(ctx, name("ours", n)) },
		func(ctx context.Context, n int) error { return theirs(ctx, name("theirs", n)) })
	if err != nil {
		return harness.Outcome{}, err
	}
	if l.callers > 1 {
		return harness.Throughput(rounds), nil
	}
	return harness.Latency(rounds), nil
}

func ourLocks(lab *harness.Lab, clients []redis.UniversalClient) (lockSide, error) {
	m, err := locking.NewQuorum(clients, locking.Options{
		TTL: lockTTL, Quarantine: -1, // the servers have just been started
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	lab.Defer(func() error { return m.Close(context.Background()) })
	return func(ctx context.Context, resource string) error {
		lease, err := m.Acquire(ctx, resource)
		if err != nil {
			return err
		}
		return lease.Release(ctx)
	}, nil
}

func redislockSide(clients []redis.UniversalClient) lockSide {
	locks := redislock.New(clients[0])
	return func(ctx context.Context, resource string) error {
		l, err := locks.Obtain(ctx, resource, lockTTL, nil)
		if err != nil {
			return err
		}
		return l.Release(ctx)
	}
}

func redsyncOf(clients []redis.UniversalClient) *redsync.Redsync {
	pools := make([]redsyncredis.Pool, len(clients))
	for i, client := range clients {
		pools[i] = goredis.NewPool(client)
	}
	return redsync.New(pools...)
}

func redsyncSide(clients []redis.UniversalClient) lockSide {
	locks := redsyncOf(clients)
	return func(ctx context.Context, resource string) error {
		m := locks.NewMutex(resource, redsync.WithExpiry(lockTTL))
		if err := m.LockContext(ctx); err != nil {
			return err
		}
		if ok, err := m.UnlockContext(ctx); !ok || err != nil {
			return fmt.Errorf("redsync: unlocked %v, %w", ok, err)
		}
		return nil
	}
}
