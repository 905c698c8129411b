package locking

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAcquire_waits_no_longer_than_it_may(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []Option
		want time.Duration
	}{
		"the default":                       {want: DefaultWait},
		"a bound of its own":                {opts: []Option{WithWait(25 * time.Second)}, want: 25 * time.Second},
		"not at all":                        {opts: []Option{WithWait(0)}},
		"its own deadline, if it is sooner": {opts: []Option{WithWait(time.Hour), WithDeadline(time.Now().Add(time.Hour)), func(r *request) { r.deadline = time.Now().Add(7 * time.Second) }}, want: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				holder, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
				acquire(t, holder, "r")
				start := time.Now()
				_, err := other.Acquire(t.Context(), "r", test.opts...)
				wantErr(t, err, ErrNotAcquired)
				if waited := time.Since(start); waited != test.want {
					t.Fatalf("waited %s; want %s", waited, test.want)
				}
				if n := other.telemetryCount(t); n != 1 {
					t.Fatalf("counted contention %d times; want once", n)
				}
			})
		})
	}
}

func TestAcquire_refuses_a_deadline_in_the_past_without_asking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		_, err := fakeManager(t, fake, Options{}).Acquire(t.Context(), "r", WithDeadline(time.Now().Add(-time.Second)))
		wantErr(t, err, ErrNotAcquired)
		if fake.count("obtain") != 0 {
			t.Fatal("asked Redis")
		}
	})
}

func TestAcquire_serves_the_waiters_of_a_process_in_order(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		blocker := acquire(t, m, "r")
		const waiters = 8
		order := make(chan int, waiters)
		for i := range waiters {
			go func() {
				lease, err := m.Acquire(t.Context(), "r")
				if err != nil {
					t.Error(err)
					return
				}
				order <- i
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait() // it is in line
		}
		if err := blocker.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for want := range waiters {
			if got := <-order; got != want {
				t.Fatalf("waiter %d was served in place of %d", got, want)
			}
		}
		synctest.Wait()
		if len(m.turns.lines) != 0 {
			t.Fatal("the line is not empty")
		}
	})
}

func TestAcquire_that_gives_up_in_line_does_not_hold_up_those_behind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		blocker := acquire(t, m, "r")
		impatient, leave := context.WithCancel(t.Context())
		results := make(chan error, 2)
		for _, ctx := range []context.Context{impatient, t.Context()} {
			go func() {
				lease, err := m.Acquire(ctx, "r")
				if err == nil {
					err = lease.Release(ctx)
				}
				results <- err
			}()
			synctest.Wait()
		}
		leave()
		wantErr(t, <-results, context.Canceled)
		if err := blocker.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	})
}

func TestAcquire_tells_a_waiting_caller_that_it_waits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		var calls []Waiting
		note := WithWaitCallback(func(w Waiting) { calls = append(calls, w) })
		acquire(t, m, "r", note)
		if len(calls) != 0 {
			t.Fatal("called although there was nothing to wait for")
		}
		_, err := m.Acquire(t.Context(), "r", note, WithWait(3500*time.Millisecond))
		wantErr(t, err, ErrNotAcquired)
		var got []string
		for _, call := range calls {
			got = append(got, fmt.Sprintf("%s/%s", call.Elapsed, call.Remaining))
		}
		if want := "[0s/3.5s 1s/2.5s 2s/1.5s 3s/500ms]"; fmt.Sprint(got) != want {
			t.Fatalf("got %v; want %s", got, want)
		}
	})
}

func TestAcquire_takes_over_from_a_holder_that_died(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		dead, next := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
		first := acquire(t, dead, "r")
		fake.plan("extend", always(hangs))
		fake.plan("release", always(hangs))
		second := acquire(t, next, "r", WithWait(time.Minute))
		if at := time.Since(fake.started); at < 30*time.Second || at > 31*time.Second {
			t.Fatalf("took over after %s", at)
		}
		if second.Fence() <= first.Fence() {
			t.Fatalf("fence %d after %d", second.Fence(), first.Fence())
		}
		if first.Err() == nil {
			t.Fatal("two holders")
		}
	})
}

// ringer has each wait hear one ring, at once, and counts those that are passed on.
type ringer struct{ passed int }

func (r *ringer) listen(lockKeys, time.Duration, bool) vigil {
	v := &ringingVigil{ringer: r, heard: make(chan struct{}, 1)}
	v.heard <- struct{}{}
	return v
}
func (*ringer) close() {}

type ringingVigil struct {
	poller
	ringer *ringer
	heard  chan struct{}
}

func (v *ringingVigil) rung() <-chan struct{}              { return v.heard }
func (v *ringingVigil) pass()                              { v.ringer.passed++ }
func (*ringingVigil) patience(time.Duration) time.Duration { return time.Hour }

// Who hears that the lock is free and does not take it tells the next one.
func TestAcquire_passes_on_a_ring_that_it_does_not_use(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after func(n int) fault // of the obtains after the first one, which finds it held
		free  bool
		want  int
		err   error
	}{
		"it is granted": {after: always(none), free: true},
		"an outage":     {after: always(lostCall), free: true, want: 1, err: ErrUnavailable},
		"it is held":    {after: always(none), err: ErrNotAcquired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
				r := new(ringer)
				m.waiter = r
				holder := acquire(t, other, "r")
				fake.plan("obtain", func(n int) fault {
					if n <= 2 { // the holder's, and the one that finds it held
						return none
					}
					if test.free {
						clear(fake.locks)
					}
					return test.after(n)
				})
				lease, err := m.Acquire(t.Context(), "r", WithWait(time.Millisecond))
				if test.err != nil {
					wantErr(t, err, test.err)
				} else if err != nil {
					t.Fatal(err)
				} else {
					_ = lease.Release(t.Context())
				}
				_ = holder.Release(t.Context())
				if r.passed != test.want {
					t.Errorf("passed on %d times; want %d", r.passed, test.want)
				}
			})
		})
	}
}
