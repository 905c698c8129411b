package contract

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

// LockManagerBackend is a fresh store of leases, as LockManager's tests need it.
type LockManagerBackend struct {
	// Open returns one more manager on the store, as another process would
	// have it. It closes the manager at the end of the test. Options carry a
	// TTL and a renewal time that suit the suite; what else there is (a
	// namespace, telemetry) is the backend's to add.
	Open func(tb testing.TB, opts locking.Options) locking.LockManager
	// Flush makes the store forget everything, as FLUSHALL does. Tests that
	// need it are left out if it is nil.
	Flush func(tb testing.TB)
	// MayMissFollowers says that Lease.Follows may be false although nobody was
	// granted in between: with several masters the last of them may be behind.
	MayMissFollowers bool
}

// patience bounds what a test of the suite waits for. Nothing takes that long
// unless it is broken.
const patience = 30 * time.Second

// quick are the suite's options: short, so that renewals happen while a test
// looks.
var quick = locking.Options{TTL: 2 * time.Second, RenewEvery: 200 * time.Millisecond, Wait: patience}

// LockManager tests that what a backend opens keeps the contract of
// locking.LockManager: one holder at a time, bounded and orderly waiting, fences
// that rise, leases that end with a cause. open is called once for each test,
// which run in parallel.
//
// It cannot show that a lock survives the faults of servers and networks; a
// backend in memory that passes proves its API and no more.
func LockManager(t *testing.T, open func(tb testing.TB) LockManagerBackend) {
	t.Helper()
	for _, test := range []struct {
		name  string
		check func(t *testing.T, b LockManagerBackend)
	}{
		{"grants a free resource", grantsFree},
		{"refuses a held resource at once when not to wait", refusesHeld},
		{"gives up at the bound of the wait", givesUpAtBound},
		{"grants a waiter when the holder releases", grantsWaiter},
		{"serves the waiters of one manager in order", servesInOrder},
		{"keeps resources apart", keepsApart},
		{"raises the fence with each grant", raisesFence},
		{"knows whether a grant followed another", knowsFollower},
		{"ends a lease's context at its release", endsContextAtRelease},
		{"releases once", releasesOnce},
		{"releases although the caller's context is done", releasesWithoutContext},
		{"leaves nothing behind when a waiter gives up", leavesNothing},
		{"keeps a lease beyond the context of its acquisition", outlivesAcquire},
		{"calls back while it waits", callsBack},
		{"ends a lease at its deadline", endsAtDeadline},
		{"ends a lease that the store forgot", endsForgotten},
		{"refuses bad input", refusesBadInput},
		{"lets one in at a time", letsOneIn},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.check(t, open(t))
		})
	}
}

func acquire(t *testing.T, m locking.LockManager, resource string, opts ...locking.Option) *locking.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lease, err := m.Acquire(ctx, resource, opts...)
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	return lease
}

func release(t *testing.T, lease *locking.Lease) {
	t.Helper()
	if err := lease.Release(context.Background()); err != nil {
		t.Fatalf("release: %v", err)
	}
}

// over waits for the end of a lease and returns its cause.
func over(t *testing.T, lease *locking.Lease) error {
	t.Helper()
	select {
	case <-lease.Context().Done():
	case <-time.After(patience):
		t.Fatal("the lease did not end")
	}
	return context.Cause(lease.Context())
}

func is(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v; want %v", err, target)
	}
}
