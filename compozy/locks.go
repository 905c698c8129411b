package compozy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

// What locks answer, with Compozy's texts.
var (
	// ErrLockNotAcquired says that another has the lock.
	ErrLockNotAcquired = errors.New("lock could not be acquired")
	// ErrLockNotHeld says that the lock was released, or was lost before.
	ErrLockNotHeld = errors.New("lock is not currently held")
	// ErrLockNotOwned says that Redis does not know the lock as ours any more.
	ErrLockNotOwned = errors.New("lock is not owned by this instance")
)

// Leases is what the adapter needs; locking.Manager has it.
type Leases interface {
	Acquire(ctx context.Context, resource string, opts ...locking.Option) (*locking.Lease, error)
}

// LockOptions are the settings of a LockManager. The zero value works.
type LockOptions struct {
	// Wait is how long Acquire waits for a lock that another has. Defaults to one
	// try, as in Compozy.
	Wait time.Duration
	// NotAcquired, NotHeld and NotOwned are the host's own sentinels, which
	// errors.Is then finds beside those of this package. Defaults to none.
	NotAcquired, NotHeld, NotOwned error
}

// LockManager has the method set of Compozy's cache.LockManager, with the host's
// Lock interface as L: its methods are those of *Lock. NewLockManager makes it. It
// is safe for concurrent use.
type LockManager[L any] struct {
	leases  Leases
	options LockOptions
}

// NewLockManager makes a LockManager on leases, which it never closes. It panics
// if leases is nil, or if *Lock is no L:
//
//	var locks cache.LockManager = compozy.NewLockManager[cache.Lock](manager, compozy.LockOptions{})
func NewLockManager[L any](leases Leases, o LockOptions) *LockManager[L] {
	if leases == nil {
		panic("compozy: NewLockManager needs leases; use locking.New or worker.Plugin.Locks")
	}
	if _, ok := any((*Lock)(nil)).(L); !ok {
		panic(fmt.Sprintf("compozy: NewLockManager: *Lock does not have the methods of %T", (*L)(nil)))
	}
	return &LockManager[L]{leases: leases, options: o}
}

// Acquire gives the lock of a resource for ttl, at least 1 s; 0 means the
// manager's own. On several lock masters it is at most the manager's quarantine (its
// TTL, unless an option says more). It is renewed in the background until its release, however ctx
// ends. Errors: ErrLockNotAcquired; beside it those of locking.Manager.Acquire,
// wrapped.
func (m *LockManager[L]) Acquire(ctx context.Context, resource string, ttl time.Duration) (L, error) {
	var none L
	if ctx == nil {
		return none, errors.New("nil context")
	}
	opts := []locking.Option{locking.WithWait(m.options.Wait)}
	if ttl != 0 {
		opts = append(opts, locking.WithTTL(ttl))
	}
	lease, err := m.leases.Acquire(ctx, resource, opts...)
	if errors.Is(err, locking.ErrNotAcquired) {
		return none, answer(ErrLockNotAcquired, m.options.NotAcquired, err)
	}
	if err != nil {
		return none, fmt.Errorf("failed to acquire lock: %w", err)
	}
	lock, _ := any(&Lock{lease: lease, options: m.options}).(L) // NewLockManager saw to it
	return lock, nil
}

// Lock has the method set of Compozy's cache.Lock. It is safe for concurrent use.
type Lock struct {
	lease   *locking.Lease
	options LockOptions
}

// Release gives the lock back, also if ctx has ended. Errors: ErrLockNotHeld if it
// was released or lost before, ErrLockNotOwned if Redis finds that it is not ours
// any more, locking.ErrUnavailable if Redis does not confirm.
func (l *Lock) Release(ctx context.Context) error {
	if err := l.lease.Err(); err != nil {
		return answer(ErrLockNotHeld, l.options.NotHeld, err)
	}
	return l.told(l.lease.Release(ctx), "failed to release lock: %w")
}

// Refresh renews the lock now, beside the renewals in the background. Errors as
// with Release; after locking.ErrUnavailable it may still be held.
func (l *Lock) Refresh(ctx context.Context) error {
	if err := l.lease.Err(); err != nil {
		return answer(ErrLockNotHeld, l.options.NotHeld, err)
	}
	return l.told(l.lease.Renew(ctx), "failed to refresh lock: %w")
}

func (l *Lock) told(err error, otherwise string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, locking.ErrNotHeld):
		return answer(ErrLockNotOwned, l.options.NotOwned, err)
	}
	return fmt.Errorf(otherwise, err)
}

// Resource is the name that was acquired.
func (l *Lock) Resource() string { return l.lease.Resource() }

// IsHeld tells whether the lock is held. It compares the clocks, so it is right
// also if the process was stopped, and no renewal had time to fail.
func (l *Lock) IsHeld() bool { return l.lease.Err() == nil }

// Lease is what the lock stands on: it has the fence, and a context that ends with
// the lock.
func (l *Lock) Lease() *locking.Lease { return l.lease }

// lockError has Compozy's text; by errors.Is it is the sentinel, the host's own,
// and the cause.
type lockError struct{ all []error }

func answer(sentinel, host, cause error) error {
	all := []error{sentinel}
	if !errors.Is(cause, context.Canceled) { // as after a release: not the caller's
		all = append(all, cause)
	}
	if host != nil {
		all = append(all, host)
	}
	return &lockError{all}
}

func (e *lockError) Error() string   { return e.all[0].Error() }
func (e *lockError) Unwrap() []error { return e.all }
