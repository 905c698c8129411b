package contract

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/embeddedtime"
	"github.com/compozy/temporal-redis/locking"
)

// embeddedLocks is a backend on embedded Redis.
func embeddedLocks(tb testing.TB) LockManagerBackend {
	tb.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	embeddedtime.Pass(server)
	tb.Cleanup(server.Close)
	return LockManagerBackend{
		Open: func(tb testing.TB, opts locking.Options) locking.LockManager {
			tb.Helper()
			return openManager(tb, redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true}), opts)
		},
		Flush: func(testing.TB) { server.FlushAll() },
	}
}

func openManager(tb testing.TB, client *redis.Client, opts locking.Options) *locking.Manager {
	tb.Helper()
	opts.Registerer = prometheus.NewRegistry()
	opts.Logger = slog.New(slog.DiscardHandler)
	m, err := locking.New(client, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			tb.Error(err)
		}
		_ = client.Close()
	})
	return m
}

func TestLockManager_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	LockManager(t, embeddedLocks)
}

// letsEveryoneIn is a broken locker: it locks something else for each caller.
type letsEveryoneIn struct {
	locking.LockManager
	callers *atomic.Int64
}

func (l letsEveryoneIn) Acquire(ctx context.Context, resource string, opts ...locking.Option) (*locking.Lease, error) {
	return l.LockManager.Acquire(ctx, resource+strconv.FormatInt(l.callers.Add(1), 10), opts...)
}

func TestExclusion_rejects_a_locker_that_lets_everyone_in(t *testing.T) {
	t.Parallel()
	backend := embeddedLocks(t)
	var callers atomic.Int64
	err := contend(t.Context(), func() locking.LockManager {
		return letsEveryoneIn{backend.Open(t, quick), &callers}
	})
	if err == nil || !strings.Contains(err.Error(), "at the same time") {
		t.Fatalf("accepted: %v", err)
	}
}

func TestExclusion_rejects_fences_that_do_not_rise(t *testing.T) {
	t.Parallel()
	for name, fences := range map[string][]uint64{"repeated": {1, 2, 2}, "falling": {7, 8, 5}} {
		var section Exclusion
		for _, fence := range fences {
			section.Enter(fence)
			section.Leave()
		}
		if err := section.Err(); err == nil || !strings.Contains(err.Error(), "after fence") {
			t.Errorf("%s fences accepted: %v", name, err)
		}
	}
	var section Exclusion
	for _, fence := range []uint64{3, 5, 9} {
		section.Enter(fence)
		section.Leave()
	}
	if err := section.Err(); err != nil {
		t.Errorf("rising fences with gaps refused: %v", err)
	}
}
