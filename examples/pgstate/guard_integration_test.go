//go:build integration

package pgstate

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

// claim is a lease that a test makes up.
type claim struct {
	resource string
	fence    uint64
	id       string
}

func (c claim) Resource() string { return c.resource }
func (c claim) Fence() uint64    { return c.fence }
func (c claim) ID() string       { return c.id }

// guarded has a transaction guarded and committed.
func (d *database) guarded(ctx context.Context, c claim) error {
	return transact(ctx, d.pool, func(tx pgx.Tx) error { return Guard(ctx, tx, c) }, commitTx)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	for i, step := range []struct {
		claim claim
		stale uint64 // what was seen, if it is refused
	}{
		{claim: claim{"r", 5, "a"}},
		{claim: claim{"r", 5, "a"}}, // the same lease writes more
		{claim: claim{"r", 5, "b"}, stale: 5},
		{claim: claim{"r", 4, "a"}, stale: 5},
		{claim: claim{"other", 1, "c"}},
		{claim: claim{"r", 1 << 52, "d"}},
		{claim: claim{"r", 5, "a"}, stale: 1 << 52},
	} {
		err := d.guarded(t.Context(), step.claim)
		stale, is := errors.AsType[*StaleFenceError](err)
		switch {
		case step.stale == 0 && err != nil:
			t.Errorf("step %d: %v", i, err)
		case step.stale != 0 && (!is || !errors.Is(err, ErrStaleFence) || stale.Stored != step.stale || stale.Fence != step.claim.fence):
			t.Errorf("step %d: got %v; want that %d was seen", i, err, step.stale)
		}
	}
}

// What the old holder writes and what the new one writes do not mix: who is guarded
// later waits for the commit of the one before, and then finds out.
func TestGuard_of_two_at_once(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first, second claim
		refused       bool
	}{
		"the newer one waits":         {first: claim{"r", 1, "old"}, second: claim{"r", 2, "new"}},
		"the older one waits in vain": {first: claim{"r", 2, "new"}, second: claim{"r", 1, "old"}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDatabase(t)
			second := make(chan error, 1)
			err := transact(t.Context(), d.pool, func(tx pgx.Tx) error {
				if err := Guard(t.Context(), tx, test.first); err != nil {
					return err
				}
				go func() { second <- d.guarded(t.Context(), test.second) }()
				until(t, "the other waits for the row", func() bool {
					var n int
					err := d.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&n)
					return err == nil && n > 0
				})
				return nil
			}, commitTx)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-second; errors.Is(err, ErrStaleFence) != test.refused || (err != nil && !test.refused) {
				t.Errorf("the second got %v", err)
			}
		})
	}
}

func newLocks(t *testing.T, client redis.UniversalClient) *locking.Manager {
	t.Helper()
	m, err := locking.New(client, locking.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// A holder that lost its lease and does not know writes nothing, neither to the
// database nor through to the cache.
func TestCached_under_a_lease(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	control := server.ControlClient(t)
	stale, fresh := newLocks(t, dial(t, server.URL())), newLocks(t, dial(t, server.URL()))
	p := d.start(t, dial(t, server.URL()), Options{Locks: fresh})
	d.seed(t, "w", "wa")
	p.agrees(t, d, "w")

	old, err := stale.Acquire(t.Context(), "w", locking.WithTTL(time.Hour))
	must(t, err)
	under := func(lease *locking.Lease) error {
		return p.SaveTaskWithLocking(locking.NewContext(t.Context(), lease), "wa", setOutput(lease.Fence()))
	}
	must(t, under(old))
	must(t, control.FlushAll(t.Context()).Err()) // the lock is forgotten, and its counter
	next, err := fresh.Acquire(t.Context(), "w", locking.WithTTL(time.Hour))
	must(t, err)
	must(t, under(next))
	p.agrees(t, d, "w")
	if err := under(old); !errors.Is(err, ErrStaleFence) {
		t.Errorf("the old holder got %v", err)
	}
	if p.agrees(t, d, "w") {
		t.Error("a write that was refused took the state out")
	}

	// The database has seen more than Redis counts, as when its clock was set back.
	must(t, d.guarded(t.Context(), claim{"w", next.Fence() + 1_000_000_000_000, "ahead"}))
	if err := under(next); !errors.Is(err, ErrStaleFence) {
		t.Errorf("behind the database it gave %v", err)
	}
	must(t, next.Release(t.Context()))
	again, err := fresh.Acquire(t.Context(), "w")
	must(t, err)
	must(t, under(again))
	must(t, again.Release(t.Context()))
	p.agrees(t, d, "w")
}
