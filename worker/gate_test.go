package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/interceptors"
)

// redisSwitch is an Availability that a test turns.
type redisSwitch struct {
	mu      sync.Mutex
	down    bool
	changed chan struct{}
	asked   func() // called after each answer, without mu
}

func newRedisSwitch(down bool) *redisSwitch {
	return &redisSwitch{down: down, changed: make(chan struct{})}
}

func (r *redisSwitch) Available() bool {
	r.mu.Lock()
	down, asked := r.down, r.asked
	r.mu.Unlock()
	if asked != nil {
		asked()
	}
	return !down
}

func (r *redisSwitch) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *redisSwitch) turn(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	close(r.changed)
	r.changed = make(chan struct{})
}

// countedSlots is a supplier of the host's that counts what it is asked.
type countedSlots struct {
	err  error
	none bool // gives nil permits

	mu       sync.Mutex
	given    []*sdkworker.SlotPermit
	tried    int
	used     []*sdkworker.SlotPermit
	released []sdkworker.SlotReleaseInfo
}

func (s *countedSlots) ReserveSlot(context.Context, sdkworker.SlotReservationInfo) (*sdkworker.SlotPermit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.none {
		return nil, s.err
	}
	permit := &sdkworker.SlotPermit{}
	s.given = append(s.given, permit)
	return permit, nil
}

func (s *countedSlots) TryReserveSlot(sdkworker.SlotReservationInfo) *sdkworker.SlotPermit {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	return &sdkworker.SlotPermit{}
}

func (s *countedSlots) MarkSlotUsed(info sdkworker.SlotMarkUsedInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = append(s.used, info.Permit())
}

func (s *countedSlots) ReleaseSlot(info sdkworker.SlotReleaseInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, info)
}

func (*countedSlots) MaxSlots() int { return 7 }

// reservation and usage are what the SDK hands to a supplier.
type reservation struct {
	sdkworker.SlotReservationInfo
}

type usage struct {
	sdkworker.SlotMarkUsedInfo

	permit *sdkworker.SlotPermit
}

func (u usage) Permit() *sdkworker.SlotPermit { return u.permit }

// gateBench is a gate with a counted supplier behind it.
type gateBench struct {
	redis *redisSwitch
	inner countedSlots
	log   bytes.Buffer
	gate  *gate
	slots gatedSlots
}

func newGateBench(down bool) *gateBench {
	b := &gateBench{redis: newRedisSwitch(down)}
	b.gate = &gate{
		taskQueue: "q", log: slog.New(slog.NewTextHandler(&b.log, nil)),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waiting"}),
		source:  func() interceptors.Availability { return b.redis },
	}
	b.slots = gatedSlots{&b.inner, b.gate}
	return b
}

// reserve asks for a slot as a poller does.
func (b *gateBench) reserve(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	go func() {
		permit, err := b.slots.ReserveSlot(ctx, reservation{})
		if err == nil && permit == nil {
			err = errors.New("no permit and no error")
		}
		result <- err
	}()
	return result
}

func (b *gateBench) lines(part string) int { return strings.Count(b.log.String(), part) }

func pending(c <-chan error) bool {
	synctest.Wait()
	return len(c) == 0
}

func TestGate_lets_polls_pass(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*gateBench){
		"while Redis answers":          func(*gateBench) {},
		"before anybody has asked it":  func(b *gateBench) { b.gate.source = func() interceptors.Availability { return nil } },
		"after an outage without them": func(b *gateBench) { b.redis.turn(true); b.redis.turn(false) },
	}
	for name, arrange := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newGateBench(false)
				arrange(b)
				start := time.Now()
				if err := <-b.reserve(t.Context()); err != nil {
					t.Error(err)
				}
				if b.slots.TryReserveSlot(reservation{}) == nil {
					t.Error("an eager activity got no slot")
				}
				if waited := time.Since(start); waited != 0 {
					t.Errorf("they waited for %v", waited)
				}
				if b.log.Len() > 0 {
					t.Errorf("it told of a pause: %s", &b.log)
				}
			})
		})
	}
}

func TestGate_holds_polls_while_Redis_is_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const pollers = 64
		b := newGateBench(true)
		woken := make(chan time.Time, pollers)
		var all sync.WaitGroup
		for range pollers {
			all.Go(func() {
				if err := <-b.reserve(t.Context()); err != nil {
					t.Error(err)
				}
				woken <- time.Now()
			})
		}
		<-time.After(time.Hour)
		synctest.Wait()
		if len(woken) > 0 || b.slots.TryReserveSlot(reservation{}) != nil || b.inner.tried > 0 {
			t.Errorf("%d polls passed the closed gate, and %d eager activities asked for a slot", len(woken), b.inner.tried)
		}
		if waiting := testutil.ToFloat64(b.gate.waiting); waiting != pollers {
			t.Errorf("the gauge says %v of %d", waiting, pollers)
		}
		b.redis.turn(false)
		opened := time.Now()
		all.Wait()
		moments := make(map[time.Time]bool)
		for range pollers {
			at := <-woken
			if after := at.Sub(opened); after > gateJitter {
				t.Errorf("a poll went on %v after the end", after)
			}
			moments[at] = true
		}
		if len(moments) < pollers/2 {
			t.Errorf("%d polls went on at only %d moments", pollers, len(moments))
		}
		if waiting := testutil.ToFloat64(b.gate.waiting); waiting != 0 {
			t.Errorf("the gauge says that %v wait", waiting)
		}
		if b.lines("pauses") != 1 || b.lines("goes on") != 1 || b.lines("task_queue=q") != 2 || len(b.inner.released) > 0 {
			t.Errorf("%d slots came back; it said:\n%s", len(b.inner.released), &b.log)
		}
	})
}

func TestGate_returns_the_slot_and_ends_at_once_with_the_context(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*gateBench){
		"while it is closed":       func(*gateBench) {},
		"while it has just opened": func(b *gateBench) { b.redis.turn(false) },
	}
	for name, arrange := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newGateBench(true)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := b.reserve(ctx)
				synctest.Wait()
				arrange(b)
				if !pending(result) {
					t.Fatal("it did not wait")
				}
				start := time.Now()
				cancel()
				err := <-result
				if err != context.Canceled || time.Since(start) != 0 { //nolint:errorlint // bare, as the supplier promises
					t.Errorf("it ended after %v with %v", time.Since(start), err)
				}
				if len(b.inner.released) != 1 {
					t.Fatalf("%d slots were given back", len(b.inner.released))
				}
				if back := b.inner.released[0]; back.Permit() != b.inner.given[0] || back.Reason() != 1 {
					t.Errorf("what came back is %p, for reason %v, of %p", back.Permit(), back.Reason(), b.inner.given[0])
				}
				if waiting := testutil.ToFloat64(b.gate.waiting); waiting != 0 {
					t.Errorf("the gauge says that %v wait", waiting)
				}
			})
		})
	}
}

func TestGate_that_closes_again_holds_those_that_it_was_about_to_let_pass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newGateBench(true)
		result := b.reserve(t.Context())
		synctest.Wait()
		b.redis.turn(false)
		synctest.Wait() // in its jitter
		b.redis.turn(true)
		<-time.After(time.Hour)
		if !pending(result) {
			t.Fatal("the poll passed a closed gate")
		}
		b.redis.turn(false)
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestGate_misses_no_change_between_question_and_wait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newGateBench(true)
		var once sync.Once
		b.redis.asked = func() { once.Do(func() { b.redis.turn(false) }) }
		if err := <-b.reserve(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestGatedSlots_leave_the_rest_to_the_hosts_supplier(t *testing.T) {
	t.Parallel()
	t.Run("its errors", func(t *testing.T) {
		t.Parallel()
		b := newGateBench(true)
		b.inner.err = errors.New("no more slots")
		if permit, err := b.slots.ReserveSlot(t.Context(), reservation{}); permit != nil || !errors.Is(err, b.inner.err) {
			t.Errorf("got %v, %v", permit, err)
		}
	})
	t.Run("a permit that is nil", func(t *testing.T) {
		t.Parallel()
		b := newGateBench(true)
		b.inner.none = true
		if permit, err := b.slots.ReserveSlot(t.Context(), reservation{}); permit != nil || err != nil {
			t.Errorf("got %v, %v", permit, err)
		}
	})
	t.Run("uses, releases and the number of slots", func(t *testing.T) {
		t.Parallel()
		b := newGateBench(true) // also while it is closed: tasks that passed before still run
		permit := &sdkworker.SlotPermit{}
		b.slots.MarkSlotUsed(usage{permit: permit})
		b.slots.ReleaseSlot(giveBack(sdkworker.SlotReleaseInfo.Reason, nil, permit))
		if len(b.inner.used) != 1 || b.inner.used[0] != permit || len(b.inner.released) != 1 || b.slots.MaxSlots() != 7 {
			t.Errorf("used %v, released %v, at most %d", b.inner.used, b.inner.released, b.slots.MaxSlots())
		}
	})
}
