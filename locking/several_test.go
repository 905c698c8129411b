package locking

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// noted takes leases from a Manager and notes what it was asked for.
type noted struct {
	*Manager
	asked []string
	waits []time.Duration
}

func (n *noted) Acquire(ctx context.Context, resource string, opts ...Option) (*Lease, error) {
	req, err := n.opts.request(opts)
	if err != nil {
		return nil, err
	}
	n.asked, n.waits = append(n.asked, resource), append(n.waits, req.wait)
	return n.Manager.Acquire(ctx, resource, opts...)
}

func TestAcquireAll_takes_leases_in_the_order_of_their_names(t *testing.T) {
	t.Parallel()
	m := &noted{Manager: fakeManager(t, newFake(), Options{})}
	leases, err := AcquireAll(t.Context(), m, []string{"c", "a", "b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, lease := range leases {
		names = append(names, lease.Resource())
	}
	if !slices.Equal(m.asked, []string{"a", "b", "c"}) || !slices.Equal(names, []string{"c", "a", "b", "a"}) || leases[1] != leases[3] {
		t.Errorf("it asked for %v and gave %v", m.asked, names)
	}
	for _, lease := range leases {
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestAcquireAll_waits_for_all_together_and_holds_none_after_an_error(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
		late, held := acquire(t, other, "a"), acquire(t, other, "b")
		defer func() { _ = held.Release(t.Context()) }()
		go func() {
			pass(2 * time.Second)
			_ = late.Release(t.Context())
		}()
		began := time.Now()
		_, err := AcquireAll(t.Context(), m, []string{"b", "a"}, WithWait(3*time.Second))
		wantErr(t, err, ErrNotAcquired)
		if took := time.Since(began); took < 3*time.Second || took > 3500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if err := acquire(t, m, "a", WithWait(0)).Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAcquireAll_gives_no_lease_that_was_lost_in_the_wait_for_another(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
		late := acquire(t, other, "b")
		go func() {
			pass(time.Second)
			fake.mu.Lock()
			delete(fake.locks, keysOf(m.space, "a").lock)
			fake.mu.Unlock()
			pass(DefaultTTL / 2) // in which a renewal finds out
			_ = late.Release(t.Context())
		}()
		leases, err := AcquireAll(t.Context(), m, []string{"a", "b"}, WithWait(time.Minute))
		wantErr(t, err, ErrNotAcquired)
		if leases != nil || errors.Is(err, ErrLost) {
			t.Errorf("it gave %v, %v", leases, err)
		}
		for _, resource := range []string{"a", "b"} {
			if err := acquire(t, other, resource, WithWait(0)).Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// While Redis says nothing, giving many back takes no longer than giving one back.
func TestAcquireAll_gives_back_all_at_once(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
		held := acquire(t, other, "z")
		ctx, cancel := context.WithCancel(t.Context())
		var ended time.Time
		go func() {
			pass(time.Second)
			fake.plan("release", always(hangs))
			ended = time.Now()
			cancel()
		}()
		_, err := AcquireAll(ctx, m, []string{"a", "b", "c", "d", "e", "f", "g", "h", "z"}, WithWait(time.Minute))
		wantErr(t, err, context.Canceled)
		if took := time.Since(ended); took > releaseTimeout+time.Second {
			t.Errorf("it came back %v after its context ended", took)
		}
		fake.plan("release", nil)
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAcquire_refuses_what_its_caller_holds(t *testing.T) {
	t.Parallel()
	fake := newFake()
	m, elsewhere := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{Namespace: "elsewhere"})
	one, two := acquire(t, m, "one"), acquire(t, m, "two")
	ctx := NewContext(t.Context(), one, two)
	for _, resource := range []string{"one", "two"} {
		if _, err := m.Acquire(ctx, resource); !errors.Is(err, ErrReentrant) {
			t.Errorf("%s gives %v", resource, err)
		}
	}
	for _, free := range []*Manager{m, elsewhere} {
		resource := "one"
		if free == m {
			resource = "three"
		}
		lease, err := free.Acquire(ctx, resource)
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := one.Release(ctx); err != nil {
		t.Fatal(err)
	}
	lease, err := m.Acquire(ctx, "one") // it holds it no more
	if err != nil {
		t.Fatal(err)
	}
	if first, ok := FromContext(ctx); !ok || first != one || len(AllFromContext(ctx)) != 2 {
		t.Errorf("the context carries %v, %v", first, ok)
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("a context carries a lease that nobody put there")
	}
	for _, l := range []*Lease{two, lease} {
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestLease_Renew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		lease := acquire(t, m, "r")
		pass(5 * time.Second)
		before := lease.Deadline()
		if err := lease.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if moved := lease.Deadline().Sub(before); moved != 5*time.Second {
			t.Errorf("the deadline moved by %v", moved)
		}
		fake.plan("extend", always(lostCall))
		wantErr(t, lease.Renew(t.Context()), ErrUnavailable)
		if err := lease.Err(); err != nil {
			t.Errorf("after an outage it is over: %v", err)
		}
		fake.plan("extend", nil)
		fake.flush()
		err := lease.Renew(t.Context())
		wantErr(t, err, ErrNotHeld)
		wantErr(t, lease.Err(), ErrLost)
		wantErr(t, lease.Renew(t.Context()), ErrNotHeld)
	})
}

func TestManager_Raise(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	m, err := newManager(p.quorum, systemClock, Options{Namespace: "test", Registerer: newRegistry(), Logger: silence})
	if err != nil {
		t.Fatal(err)
	}
	m.waiter = pollWaiter{}
	ahead := uint64(1 << 51)
	p.down(0)
	if err := m.Raise(t.Context(), "r", ahead); err != nil {
		t.Fatal(err)
	}
	p.tasks.Wait()
	p.back(0)
	p.down(1)
	if fence := p.take().grant().fence; fence <= ahead {
		t.Errorf("the fence is %d", fence)
	}
	p.tasks.Wait()
	p.back(1)
	p.down(0, 1)
	wantErr(t, m.Raise(t.Context(), "r", ahead), ErrUnavailable)
	p.back(0, 1)
	wantErr(t, m.Raise(t.Context(), "", ahead), ErrInvalidResource)
	wantErr(t, m.Raise(t.Context(), "r", 1<<52), ErrInvalidOptions)
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	wantErr(t, m.Raise(t.Context(), "r", ahead), ErrClosed)
}
