package compozy_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/compozy"
	"github.com/compozy/temporal-redis/locking"
)

// theirLock and theirLockManager are Compozy's cache.Lock and cache.LockManager,
// word for word but for the types' names.
type theirLock interface {
	Release(ctx context.Context) error
	Refresh(ctx context.Context) error
	Resource() string
	IsHeld() bool
}

type theirLockManager interface {
	Acquire(ctx context.Context, resource string, ttl time.Duration) (theirLock, error)
}

var (
	_ theirLockManager = (*compozy.LockManager[theirLock])(nil)
	_ compozy.Leases   = (*locking.Manager)(nil)
)

func newLocks(t *testing.T, client redis.UniversalClient, o compozy.LockOptions) theirLockManager {
	t.Helper()
	m, err := locking.New(client, locking.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return compozy.NewLockManager[theirLock](m, o)
}

func TestLockManager(t *testing.T) {
	t.Parallel()
	_, conn := newStore(t)
	ctx := t.Context()
	theirs := errors.New("cache: lock could not be acquired")
	one := newLocks(t, conn.Client(), compozy.LockOptions{})
	other := newLocks(t, conn.Client(), compozy.LockOptions{NotAcquired: theirs})

	acquiring, stop := context.WithCancel(ctx)
	lock, err := one.Acquire(acquiring, "r", 0)
	stop() // as theirs does not, it lives on
	if err != nil || lock.Resource() != "r" || !lock.IsHeld() {
		t.Fatalf("it gave %v, %v", lock, err)
	}
	_, err = other.Acquire(ctx, "r", time.Minute)
	for _, want := range []error{compozy.ErrLockNotAcquired, locking.ErrNotAcquired, theirs} {
		if !errors.Is(err, want) {
			t.Errorf("a held lock gives %v; want %v", err, want)
		}
	}
	if err.Error() != "lock could not be acquired" {
		t.Errorf("its text is %q", err)
	}
	if err := lock.Refresh(ctx); err != nil || !lock.IsHeld() {
		t.Errorf("refreshed: %v", err)
	}
	if err := lock.Release(ctx); err != nil || lock.IsHeld() {
		t.Errorf("released: %v, held: %v", err, lock.IsHeld())
	}
	for name, do := range map[string]func(context.Context) error{"Release": lock.Release, "Refresh": lock.Refresh} {
		if err := do(ctx); !errors.Is(err, compozy.ErrLockNotHeld) || errors.Is(err, context.Canceled) || err.Error() != "lock is not currently held" {
			t.Errorf("%s of one that was released gives %v", name, err)
		}
	}
	if next, err := other.Acquire(ctx, "r", time.Minute); err != nil || next.Release(ctx) != nil {
		t.Errorf("the next gets %v", err)
	}
}

func TestLock_that_Redis_forgot(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(context.Context, theirLock) error{
		"Release": func(ctx context.Context, l theirLock) error { return l.Release(ctx) },
		"Refresh": func(ctx context.Context, l theirLock) error { return l.Refresh(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, conn := newStore(t)
			notOwned := errors.New("theirs")
			lock, err := newLocks(t, conn.Client(), compozy.LockOptions{NotOwned: notOwned}).Acquire(t.Context(), "r", 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			err = do(t.Context(), lock)
			if !errors.Is(err, compozy.ErrLockNotOwned) || !errors.Is(err, notOwned) || err.Error() != "lock is not owned by this instance" {
				t.Errorf("it gives %v", err)
			}
			if lock.IsHeld() {
				t.Error("it is held")
			}
		})
	}
}

func TestLockManager_refuses(t *testing.T) {
	t.Parallel()
	_, conn := newStore(t)
	locks := newLocks(t, conn.Client(), compozy.LockOptions{})
	if _, err := locks.Acquire(t.Context(), "", 0); !errors.Is(err, locking.ErrInvalidResource) {
		t.Errorf("no resource gives %v", err)
	}
	if _, err := locks.Acquire(t.Context(), "r", time.Millisecond); !errors.Is(err, locking.ErrInvalidOptions) {
		t.Errorf("a TTL of 1 ms gives %v", err)
	}
	if _, err := locks.Acquire(nil, "r", 0); err == nil { //nolint:staticcheck // Compozy's refuses it too
		t.Error("no context is accepted")
	}
	for name, construct := range map[string]func(){
		"no leases":       func() { compozy.NewLockManager[theirLock](nil, compozy.LockOptions{}) },
		"another's locks": func() { compozy.NewLockManager[interface{ Unlock() }](new(locking.Manager), compozy.LockOptions{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			construct()
		}()
	}
}
