package locking

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestAcquire_recovers_a_lost_reply_by_the_same_token(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]fault{"reply lost": lostReply, "call lost": lostCall, "call hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m := fakeManager(t, fake, Options{})
				fake.plan("obtain", first(2, broken))
				lease := acquire(t, m, "r", WithWait(0))
				if fake.count("obtain") != 3 {
					t.Fatalf("asked %d times", fake.count("obtain"))
				}
				if m.telemetryCount(t) != 0 {
					t.Fatal("met itself and counted that as contention")
				}
				if err := lease.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func (m *Manager) telemetryCount(t *testing.T) int {
	t.Helper()
	return int(testutil.ToFloat64(m.telemetry.Metrics.LockContention))
}

func TestAcquire_recovers_a_lost_reply_while_it_waits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		holder, m := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
		lease := acquire(t, holder, "r")
		granted := make(chan error, 1)
		go func() {
			_, err := m.Acquire(t.Context(), "r")
			granted <- err
		}()
		pass(time.Second)
		synctest.Wait()
		fake.plan("obtain", first(fake.count("obtain")+1, lostReply)) // the next one
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-granted; err != nil {
			t.Fatalf("met itself: %v", err)
		}
	})
}

func TestAcquire_returns_an_outage_and_undoes_what_may_have_been_granted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		fake.plan("obtain", always(lostReply))
		fake.plan("undo", first(3, lostCall))
		_, err := m.Acquire(t.Context(), "r")
		wantErr(t, err, ErrUnavailable)
		if strings.Contains(err.Error(), "\n") {
			t.Fatalf("more than a line: %q", err)
		}
		pass(5 * time.Second) // virtual: for the background
		if _, held := fake.held(keysOf(m.space, "r")); held {
			t.Fatal("the lock was left behind")
		}
		if got := testutil.ToFloat64(m.telemetry.Metrics.LockAcquire.WithLabelValues(telemetry.LockUnavailable)); got != 1 {
			t.Fatalf("counted %v", got)
		}
	})
}

func TestAcquire_leaves_nothing_behind_when_its_context_ends_in_mid_call(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.gate = make(chan struct{})
		m := fakeManager(t, fake, Options{})
		m.troubled.Store(true) // as after any outage
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := m.Acquire(ctx, "r")
			result <- err
		}()
		synctest.Wait() // the obtain is on its way
		why := errors.New("the caller's reason")
		cancel(why)
		err := <-result // at once, while the obtain is still out
		wantErr(t, err, context.Canceled)
		wantErr(t, err, why)
		close(fake.gate) // now Redis executes it
		synctest.Wait()
		if fake.count("obtain") != 1 || fake.count("release") != 1 {
			t.Fatalf("calls: %v", fake.calls)
		}
		if _, held := fake.held(keysOf(m.space, "r")); held {
			t.Fatal("the lock was left behind")
		}
	})
}

func TestAcquire_takes_back_a_grant_that_came_after_its_context_ended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.slow["obtain"] = time.Second
		m := fakeManager(t, fake, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := m.Acquire(ctx, "r")
		wantErr(t, err, context.DeadlineExceeded)
		synctest.Wait()
		if _, held := fake.held(keysOf(m.space, "r")); held || fake.count("obtain") != 1 {
			t.Fatalf("held: %v, calls: %v", held, fake.calls)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		_, err = m.Acquire(ended, "r")
		wantErr(t, err, context.Canceled)
		if fake.count("obtain") != 1 {
			t.Fatal("asked although the context was done")
		}
	})
}

func TestAcquire_does_not_hand_out_a_grant_that_is_almost_over(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		fake.slow["obtain"] = time.Second - drift(time.Second)
		m := fakeManager(t, fake, Options{TTL: time.Second})
		_, err := m.Acquire(t.Context(), "r")
		wantErr(t, err, ErrUnavailable)
	})
}
