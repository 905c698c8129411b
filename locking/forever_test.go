package locking

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// What is meant as no bound is one that fits everywhere.
func TestAcquire_takes_times_that_are_as_good_as_for_ever(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"a deadline of the year 9999": {WithDeadline(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))},
		"a wait of 292 years":         {WithWait(math.MaxInt64)}, // how it is asked for is below
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := fakeManager(t, newFake(), Options{})
				lease := acquire(t, m, "r", opts...)
				if left := time.Until(lease.Deadline()); left < 29*time.Second {
					t.Errorf("it is valid for %s", left)
				}
				pass(time.Minute)
				if err := lease.Err(); err != nil {
					t.Errorf("a minute later: %v", err)
				}
				wantErr(t, lease.Release(t.Context()), nil)
			})
		})
	}
	o := Options{}.withDefaults()
	if r, err := o.request([]Option{WithWait(math.MaxInt64)}); err != nil || r.wait != forEver {
		t.Errorf("it waits for %s, %v", r.wait, err)
	}
}

// Who takes it for a time-out does not go on.
func TestDeadline_of_a_lease_that_is_over_has_passed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		lease := acquire(t, m, "r")
		if !lease.Deadline().After(time.Now()) {
			t.Fatal("it is held, and its end has passed")
		}
		pass(time.Second)
		wantErr(t, lease.Release(t.Context()), nil)
		if deadline := lease.Deadline(); deadline.After(time.Now()) {
			t.Errorf("it is over, and ends in %s", time.Until(deadline))
		}
	})
}

// A Redis that hangs is not asked again when the wait is over.
func TestAcquire_asks_no_more_when_its_wait_is_over(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		fake.plan("obtain", always(hangs))
		began := time.Now()
		_, err := m.Acquire(t.Context(), "r", WithWait(time.Second))
		if wantErr(t, err, ErrUnavailable); time.Since(began) > opTimeout || fake.count("obtain") != 1 {
			t.Errorf("it gave up after %s and %d tries", time.Since(began), fake.count("obtain"))
		}
	})
}

// The monotonic clock stands still while a machine is suspended.
func TestDeadline_comes_sooner_after_a_suspension(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		machine := &skewedClock{}
		m := fakeManagerWith(t, newFake(), machine.now, Options{})
		lease := acquire(t, m, "r")
		before := time.Until(lease.Deadline())
		machine.skew.Store(int64(8 * time.Second))
		if after := time.Until(lease.Deadline()); before-after != 8*time.Second {
			t.Errorf("it ends in %s, and in %s when 8 s have passed of which the process saw nothing", before, after)
		}
		machine.skew.Store(0)
		wantErr(t, lease.Release(t.Context()), nil)
	})
}

// A ring that was not used yet is one: no second line is made for another, which is passed
// on if it comes all the same.
func TestBells_keep_one_ring(t *testing.T) {
	t.Parallel()
	passed := 0
	b := &bells{
		spawn: func(do func()) { t.Error("it listens"); do() },
		pass:  func(context.Context, lockKeys) (bool, error) { passed++; return true, nil },
	}
	v := &bellVigil{bells: b, heard: make(chan struct{}, 1), until: time.Now().Add(time.Hour)}
	v.heard <- struct{}{}
	v.again()
	if v.line != nil || len(b.lines) > 0 {
		t.Error("it listens although there is a ring")
	}
	v.settle(&line{done: make(chan struct{})}, nil) // does not wait until somebody takes the first
	if <-v.heard; len(v.heard) > 0 || passed != 1 {
		t.Errorf("there are %d rings more, and %d were passed on", len(v.heard), passed)
	}
}
