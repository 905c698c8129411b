package locking

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fault is what happens to one call to the fake masters.
type fault int

const (
	none      fault = iota
	lostCall        // not executed, the caller gets an outage
	lostReply       // executed, the caller gets an outage
	hangs           // not executed, the caller gets nothing until its context ends
)

var errOutage = wrap("fake", io.EOF)

// fakeMasters keep locks in memory and expire them by time.Now, which is
// virtual inside a synctest bubble.
type fakeMasters struct {
	mu       sync.Mutex
	locks    map[string]fakeLock
	fences   map[string]uint64
	previous map[string]string
	started  time.Time

	calls  map[string][]time.Duration // by operation: when, since started
	faults map[string]func(n int) fault
	gate   chan struct{}            // if not nil: obtain passes it first, whatever its context says
	slow   map[string]time.Duration // how long the reply to an operation takes, whatever its context says
}

type fakeLock struct {
	token   string
	expires time.Time
}

func newFake() *fakeMasters {
	return &fakeMasters{
		locks:    make(map[string]fakeLock),
		fences:   make(map[string]uint64),
		previous: make(map[string]string),
		started:  time.Now(),
		calls:    make(map[string][]time.Duration),
		faults:   make(map[string]func(int) fault),
		slow:     make(map[string]time.Duration),
	}
}

// call notes an operation and plays its fault around do.
func (f *fakeMasters) call(ctx context.Context, op string, do func() error) error {
	if ctx.Err() != nil {
		return wrap("fake", ctx.Err())
	}
	f.mu.Lock()
	f.calls[op] = append(f.calls[op], time.Since(f.started))
	what := none
	if plan := f.faults[op]; plan != nil {
		what = plan(len(f.calls[op]))
	}
	f.mu.Unlock()
	switch what {
	case none, lostReply:
	case lostCall:
		return errOutage
	case hangs:
		<-ctx.Done()
		return wrap("fake", ctx.Err())
	}
	f.mu.Lock()
	err := do()
	slow := f.slow[op]
	f.mu.Unlock()
	pass(slow)
	if what == lostReply {
		return errOutage
	}
	return err
}

func (f *fakeMasters) holder(key string) (fakeLock, bool) {
	l, ok := f.locks[key]
	return l, ok && time.Now().Before(l.expires)
}

func (f *fakeMasters) claim(k lockKeys, token string) claim {
	return &fakeClaim{fakeMasters: f, keys: k, token: token}
}

// fakeClaim is what a token has on fake masters.
type fakeClaim struct {
	*fakeMasters
	keys  lockKeys
	token string

	state   sync.Mutex
	granted grant
	has     bool
	unsure  bool
}

func (c *fakeClaim) obtain(ctx context.Context, ttl time.Duration) error {
	if c.gate != nil {
		<-c.gate
	}
	var g grant
	err := c.call(ctx, "obtain", func() error {
		if l, ok := c.holder(c.keys.lock); ok && l.token != c.token {
			return errHeld
		}
		c.locks[c.keys.lock] = fakeLock{c.token, time.Now().Add(ttl)}
		c.fences[c.keys.lock]++
		g = grant{fence: c.fences[c.keys.lock], previous: c.previous[c.keys.lock]}
		c.previous[c.keys.lock] = c.token
		return nil
	})
	c.state.Lock()
	defer c.state.Unlock()
	if err != nil {
		c.unsure = c.unsure || maybeGranted(err)
		return err
	}
	c.granted, c.has = g, true
	return nil
}

func (c *fakeClaim) grant() grant {
	c.state.Lock()
	defer c.state.Unlock()
	return c.granted
}

func (c *fakeClaim) pending() bool {
	c.state.Lock()
	defer c.state.Unlock()
	return c.has || c.unsure
}

func (c *fakeClaim) owns() bool {
	l, ok := c.holder(c.keys.lock)
	return ok && l.token == c.token
}

func (c *fakeClaim) extend(ctx context.Context, ttl time.Duration) error {
	return c.call(ctx, "extend", func() error {
		if !c.owns() {
			c.forget()
			return errGone
		}
		c.locks[c.keys.lock] = fakeLock{c.token, time.Now().Add(ttl)}
		return nil
	})
}

func (c *fakeClaim) release(ctx context.Context, _ func(time.Duration)) error {
	c.state.Lock()
	op, err := "release", errGone
	if !c.has {
		op, err = "undo", nil
	}
	c.state.Unlock()
	return c.call(ctx, op, func() error {
		owned := c.owns()
		c.forget()
		if !owned {
			return err
		}
		delete(c.locks, c.keys.lock)
		return nil
	})
}

func (c *fakeClaim) forget() {
	c.state.Lock()
	defer c.state.Unlock()
	c.has, c.unsure = false, false
}

func (*fakeMasters) close() {}

func (*fakeClaim) contend(bool) {}

func (*fakeMasters) forget(context.Context, lockKeys) {}

func (f *fakeMasters) raise(_ context.Context, k lockKeys, fence uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fences[k.lock] = max(f.fences[k.lock], fence)
	return nil
}

func (f *fakeMasters) remaining(ctx context.Context, k lockKeys, _ time.Duration) (left time.Duration, err error) {
	err = f.call(ctx, "remaining", func() error {
		if l, ok := f.holder(k.lock); ok {
			left = time.Until(l.expires)
		}
		return nil
	})
	return left, err
}

// held tells whether anybody holds the lock.
func (f *fakeMasters) held(k lockKeys) (fakeLock, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder(k.lock)
}

// flush loses all locks, as FLUSHALL does.
func (f *fakeMasters) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.locks)
}

func (f *fakeMasters) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls[op])
}

func (f *fakeMasters) plan(op string, what func(n int) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[op] = what
}

func always(what fault) func(int) fault { return func(int) fault { return what } }

// first has the first n calls go wrong.
func first(n int, what fault) func(int) fault {
	return func(call int) fault {
		if call <= n {
			return what
		}
		return none
	}
}

// skewedClock is the system's, with a wall clock that a test can push.
type skewedClock struct{ skew atomic.Int64 }

func (c *skewedClock) now() instant {
	i := systemClock()
	i.wall = i.wall.Add(time.Duration(c.skew.Load()))
	return i
}

// pass lets time go by, which inside a synctest bubble takes none.
func pass(d time.Duration) { <-time.After(d) }

// over waits for the end of a context, for longer than any test should need in
// virtual time.
func over(t *testing.T, ctx context.Context) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
		t.Fatal("the context did not end")
	}
}

type pollWaiter struct{}

func (pollWaiter) listen(lockKeys, time.Duration, bool) vigil { return &poller{} }
func (pollWaiter) close()                                     {}

// fakeManager is a Manager on fake masters, closed at the end of the test.
func fakeManager(t *testing.T, masters masters, opts Options) *Manager {
	t.Helper()
	return fakeManagerWith(t, masters, systemClock, opts)
}

func fakeManagerWith(t *testing.T, masters masters, now clock, opts Options) *Manager {
	t.Helper()
	opts.Registerer = prometheus.NewRegistry()
	opts.Logger = slog.New(slog.DiscardHandler)
	m, err := newManager(masters, now, opts)
	if err != nil {
		t.Fatal(err)
	}
	m.waiter = pollWaiter{}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func acquire(t *testing.T, m *Manager, resource string, opts ...Option) *Lease {
	t.Helper()
	lease, err := m.Acquire(t.Context(), resource, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v; want %v", err, target)
	}
}

var silence = slog.New(slog.DiscardHandler)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }
