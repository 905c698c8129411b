package contract

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

func raisesFence(t *testing.T, b LockManagerBackend) {
	managers := []locking.LockManager{b.Open(t, quick), b.Open(t, quick), b.Open(t, quick)}
	var last uint64
	for i := range 30 {
		lease := acquire(t, managers[i%len(managers)], "r")
		if lease.Fence() <= last {
			t.Fatalf("fence %d after %d", lease.Fence(), last)
		}
		last = lease.Fence()
		release(t, lease)
	}
	if b.Flush == nil {
		return
	}
	b.Flush(t)
	lease := acquire(t, managers[0], "r")
	if lease.Fence() <= last {
		t.Fatalf("after a flush: fence %d after %d", lease.Fence(), last)
	}
	release(t, lease)
}

func knowsFollower(t *testing.T, b LockManagerBackend) {
	one, other := b.Open(t, quick), b.Open(t, quick)
	first := acquire(t, one, "r")
	_, err := other.Acquire(t.Context(), "r", locking.WithWait(0)) // not granted
	is(t, err, locking.ErrNotAcquired)
	release(t, first)
	second := acquire(t, one, "r")
	if !second.Follows(first) && !b.MayMissFollowers {
		t.Error("an attempt that failed counts as a grant in between")
	}
	release(t, second)
	release(t, acquire(t, other, "r"))
	third := acquire(t, one, "r")
	if third.Follows(second) {
		t.Error("a grant in between was overlooked")
	}
	release(t, third)
}

func endsContextAtRelease(t *testing.T, b LockManagerBackend) {
	lease := acquire(t, b.Open(t, quick), "r")
	bound, cancel := lease.Bind(t.Context())
	defer cancel()
	if bound.Err() != nil || lease.Context().Err() != nil {
		t.Fatal("a context of a held lease is done")
	}
	release(t, lease)
	cause := over(t, lease)
	if is(t, cause, context.Canceled); errors.Is(cause, locking.ErrLost) {
		t.Fatalf("a released lease counts as lost: %v", cause)
	}
	<-bound.Done()
}

func releasesOnce(t *testing.T, b LockManagerBackend) {
	one, other := b.Open(t, quick), b.Open(t, quick)
	first := acquire(t, one, "r")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := first.Release(context.Background()); err != nil {
				t.Errorf("release: %v", err)
			}
		})
	}
	wg.Wait()
	second := acquire(t, other, "r", locking.WithWait(0))
	release(t, first) // must not take the second one's lock
	_, err := one.Acquire(t.Context(), "r", locking.WithWait(0))
	is(t, err, locking.ErrNotAcquired)
	release(t, second)
}

func releasesWithoutContext(t *testing.T, b LockManagerBackend) {
	m := b.Open(t, quick)
	lease := acquire(t, m, "r")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lease.Release(ctx); err != nil {
		t.Fatalf("release: %v", err)
	}
	release(t, acquire(t, m, "r", locking.WithWait(0)))
}

func leavesNothing(t *testing.T, b LockManagerBackend) {
	one, other := b.Open(t, quick), b.Open(t, quick)
	lease := acquire(t, one, "r")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := other.Acquire(ctx, "r", locking.WithWaitCallback(func(locking.Waiting) { cancel() }))
	is(t, err, context.Canceled)
	release(t, lease)

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = other.Acquire(done, "r")
	is(t, err, context.Canceled)
	release(t, acquire(t, one, "r"))
}

func outlivesAcquire(t *testing.T, b LockManagerBackend) {
	ctx, cancel := context.WithCancel(t.Context())
	lease, err := b.Open(t, quick).Acquire(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	renewedTwice(t, lease)
	_, err = b.Open(t, quick).Acquire(t.Context(), "r", locking.WithWait(0))
	is(t, err, locking.ErrNotAcquired)
	release(t, lease)
}

// renewedTwice waits until the lease's deadline moved twice.
func renewedTwice(t *testing.T, lease *locking.Lease) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(patience)
	last := lease.Deadline()
	for moved := 0; moved < 2; {
		select {
		case <-lease.Context().Done():
			t.Fatalf("the lease ended: %v", context.Cause(lease.Context()))
		case <-giveUp:
			t.Fatal("the lease was not renewed")
		case <-tick.C:
			if now := lease.Deadline(); now.After(last) {
				last = now
				moved++
			}
		}
	}
}

func callsBack(t *testing.T, b LockManagerBackend) {
	lease := acquire(t, b.Open(t, quick), "r")
	const bound = 100 * time.Millisecond
	var first *locking.Waiting
	_, err := b.Open(t, quick).Acquire(t.Context(), "r", locking.WithWait(bound), locking.WithWaitCallback(func(w locking.Waiting) {
		if first == nil {
			first = &w
		}
	}))
	is(t, err, locking.ErrNotAcquired)
	if first == nil {
		t.Fatal("not called")
	}
	if first.Elapsed < 0 || first.Remaining < 0 || first.Remaining > bound {
		t.Fatalf("called with %+v", *first)
	}
	release(t, lease)
}

func endsAtDeadline(t *testing.T, b LockManagerBackend) {
	m := b.Open(t, quick)
	// Long enough for a first grant on a busy machine: one that comes when the
	// deadline is near is refused.
	at := time.Now().Add(2 * time.Second)
	lease := acquire(t, m, "r", locking.WithDeadline(at))
	if lease.Deadline().After(at.Add(time.Millisecond)) {
		t.Errorf("Deadline is %s after the one that was given", lease.Deadline().Sub(at))
	}
	is(t, over(t, lease), locking.ErrLost)
	is(t, lease.Release(t.Context()), locking.ErrNotHeld)
	_, err := m.Acquire(t.Context(), "other", locking.WithDeadline(time.Now().Add(-time.Second)))
	is(t, err, locking.ErrNotAcquired)
}

func endsForgotten(t *testing.T, b LockManagerBackend) {
	if b.Flush == nil {
		return
	}
	m := b.Open(t, quick)
	lease := acquire(t, m, "r")
	b.Flush(t)
	is(t, over(t, lease), locking.ErrLost)
	is(t, lease.Err(), locking.ErrLost)
	is(t, lease.Release(t.Context()), locking.ErrNotHeld)
	next := acquire(t, m, "r")
	if next.Fence() <= lease.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), lease.Fence())
	}
	if next.Follows(lease) {
		t.Error("Follows, although the store forgot who was granted in between")
	}
	release(t, next)
}

func refusesBadInput(t *testing.T, b LockManagerBackend) {
	m := b.Open(t, quick)
	for _, test := range []struct {
		resource string
		opts     []locking.Option
		want     error
	}{
		{"", nil, locking.ErrInvalidResource},
		{strings.Repeat("x", 10_000), nil, locking.ErrInvalidResource},
		{"r", []locking.Option{locking.WithTTL(time.Millisecond)}, locking.ErrInvalidOptions},
		{"r", []locking.Option{locking.WithWait(-time.Second)}, locking.ErrInvalidOptions},
	} {
		_, err := m.Acquire(t.Context(), test.resource, test.opts...)
		is(t, err, test.want)
	}
}
