package contract

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

func grantsFree(t *testing.T, b LockManagerBackend) {
	start := time.Now()
	lease := acquire(t, b.Open(t, quick), "default/wf-1")
	if lease.Resource() != "default/wf-1" {
		t.Errorf("Resource is %q", lease.Resource())
	}
	if lease.Fence() == 0 || lease.Fence() > 1<<53 {
		t.Errorf("Fence is %d", lease.Fence())
	}
	if left := lease.Deadline().Sub(start); left <= 0 || left > quick.TTL+patience {
		t.Errorf("Deadline is %s away", left)
	}
	if err := lease.Err(); err != nil {
		t.Errorf("Err is %v", err)
	}
	release(t, lease)
}

func refusesHeld(t *testing.T, b LockManagerBackend) {
	one, other := b.Open(t, quick), b.Open(t, quick)
	lease := acquire(t, one, "r")
	for _, m := range []locking.LockManager{one, other} {
		_, err := m.Acquire(t.Context(), "r", locking.WithWait(0))
		is(t, err, locking.ErrNotAcquired)
	}
	release(t, lease)
	release(t, acquire(t, other, "r", locking.WithWait(0)))
}

func givesUpAtBound(t *testing.T, b LockManagerBackend) {
	lease := acquire(t, b.Open(t, quick), "r")
	const bound = 150 * time.Millisecond
	start := time.Now()
	_, err := b.Open(t, quick).Acquire(t.Context(), "r", locking.WithWait(bound))
	is(t, err, locking.ErrNotAcquired)
	if waited := time.Since(start); waited < bound {
		t.Fatalf("gave up after %s", waited)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("more than a line: %q", err)
	}
	release(t, lease)
}

func grantsWaiter(t *testing.T, b LockManagerBackend) {
	lease := acquire(t, b.Open(t, quick), "r")
	other := b.Open(t, quick)
	waiting := make(chan struct{}, 1)
	granted := make(chan *locking.Lease, 1)
	go func() {
		granted <- acquireOrNil(t, other, "r", locking.WithWaitCallback(signal(waiting)))
	}()
	<-waiting
	if err := lease.Err(); err != nil {
		t.Fatal(err)
	}
	release(t, lease)
	if next := <-granted; next != nil {
		release(t, next)
	}
}

// signal makes a callback that says once that somebody waits.
func signal(waiting chan<- struct{}) func(locking.Waiting) {
	return func(locking.Waiting) {
		select {
		case waiting <- struct{}{}:
		default:
		}
	}
}

// acquireOrNil is acquire for goroutines that are not the test's.
func acquireOrNil(t *testing.T, m locking.LockManager, resource string, opts ...locking.Option) *locking.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lease, err := m.Acquire(ctx, resource, opts...)
	if err != nil {
		t.Errorf("acquire: %v", err)
		return nil
	}
	return lease
}

func servesInOrder(t *testing.T, b LockManagerBackend) {
	m := b.Open(t, quick)
	lease := acquire(t, m, "r")
	const waiters = 5
	order := make(chan int, waiters)
	var done sync.WaitGroup
	defer done.Wait()
	for i := range waiters {
		waiting := make(chan struct{}, 1)
		done.Go(func() {
			next := acquireOrNil(t, m, "r", locking.WithWaitCallback(signal(waiting)))
			order <- i
			if next != nil {
				if err := next.Release(context.Background()); err != nil {
					t.Errorf("release: %v", err)
				}
			}
		})
		<-waiting
	}
	release(t, lease)
	for want := range waiters {
		if got := <-order; got != want {
			t.Errorf("waiter %d was served in place of %d", got, want)
		}
	}
}

func keepsApart(t *testing.T, b LockManagerBackend) {
	m := b.Open(t, quick)
	var leases []*locking.Lease
	for _, resource := range []string{"a", "a:b", "a%3Ab", "a/b", "{a}", "a\nb", "ä", "*", strings.Repeat("x", 1024)} {
		leases = append(leases, acquire(t, m, resource, locking.WithWait(0)))
	}
	for _, lease := range leases {
		release(t, lease)
	}
}
