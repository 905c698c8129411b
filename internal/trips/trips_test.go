package trips

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// road is where trips of numbers go: each is held up until it is let through.
type road struct {
	mu    sync.Mutex
	sent  [][]int
	ctxs  []context.Context
	allow chan error     // what the next trip ends with
	acts  map[int]func() // what a trip with an item does first
}

func newRoad() (*road, *Trips[int]) {
	r := &road{allow: make(chan error), acts: make(map[int]func())}
	return r, &Trips[int]{
		AtOnce: 4,
		Op:     "get",
		Log:    slog.New(slog.DiscardHandler),
		Send: func(ctx context.Context, items []int) error {
			r.mu.Lock()
			r.sent = append(r.sent, slices.Clone(items))
			r.ctxs = append(r.ctxs, ctx)
			r.mu.Unlock()
			for _, n := range items {
				if act := r.acts[n]; act != nil {
					act()
				}
			}
			select {
			case err := <-r.allow:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Size: func(n int) int { return n },
	}
}

// start makes callers go on board one after the other; their errors come out of
// the channel.
func start(ctx context.Context, t *Trips[int], items ...int) <-chan error {
	errs := make(chan error, len(items))
	for _, n := range items {
		go func() { errs <- t.Do(ctx, n) }()
		synctest.Wait()
	}
	return errs
}

// pass lets as much time pass as someone waits at most, in a bubble.
func pass() {
	<-time.After(MaxWait)
	synctest.Wait()
}

// drive lets trips end until all callers are back, and checks that all went well.
func (r *road) drive(t *testing.T, errs <-chan error, callers int) {
	t.Helper()
	for callers > 0 {
		select {
		case r.allow <- nil:
			synctest.Wait() // whoever goes next is under way
		case err := <-errs:
			callers--
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// landed checks that no trip is under way.
func landed(t *testing.T, trips *Trips[int]) {
	t.Helper()
	synctest.Wait()
	trips.mu.Lock()
	defer trips.mu.Unlock()
	if trips.flying != 0 {
		t.Errorf("%d trips are still counted", trips.flying)
	}
}

func (r *road) went(t *testing.T, want ...[]int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.EqualFunc(r.sent, want, slices.Equal) {
		t.Errorf("the trips were %v; want %v", r.sent, want)
	}
}

func TestTrips_are_shared_by_who_comes_while_all_are_under_way(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		errs := start(t.Context(), trips, 1, 2, 3, 4, 5, 6, 7)
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4})
		r.drive(t, errs, 7)
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5, 6, 7})
		alone := start(t.Context(), trips, 8)
		r.drive(t, alone, 1)
		if last := r.sent[len(r.sent)-1]; !slices.Equal(last, []int{8}) {
			t.Errorf("afterwards one goes as %v", last)
		}
	})
}

func TestTrips_carry_no_more_than_they_may(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		waiting []int
		want    [][]int
	}{
		"callers":                        {slices.Repeat([]int{1}, maxPassengers+1), [][]int{slices.Repeat([]int{1}, maxPassengers), {1}}},
		"bytes":                          {[]int{maxTripBytes - 1, 1, 1}, [][]int{{maxTripBytes - 1, 1}, {1}}},
		"one that is larger than a trip": {[]int{2 * maxTripBytes, 1}, [][]int{{2 * maxTripBytes}, {1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, trips := newRoad()
				first := start(t.Context(), trips, 0, 0, 0, 0)
				rest := start(t.Context(), trips, test.waiting...)
				r.drive(t, first, 4)
				r.drive(t, rest, len(test.waiting))
				r.went(t, append([][]int{{0}, {0}, {0}, {0}}, test.want...)...)
			})
		})
	}
}

func TestTrips_that_hang_hold_up_nobody_else_for_long(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		rest := start(t.Context(), trips, 5, 6)
		pass()
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5, 6})
		r.drive(t, first, 4)
		r.drive(t, rest, 2)
		landed(t, trips)
	})
}

func TestTrips_are_no_more_than_before_when_they_are_quick_again(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		early := start(t.Context(), trips, 1, 2, 3, 4, 5)
		pass() // 5 went too
		late := start(t.Context(), trips, 6)
		for _, want := range []int{5, 6} { // one of five ends, one of four
			r.allow <- nil
			synctest.Wait()
			if len(r.sent) != want {
				t.Errorf("%d trips were made; want %d", len(r.sent), want)
			}
		}
		r.drive(t, early, 5)
		r.drive(t, late, 1)
		landed(t, trips)
	})
}

func TestTrips_leave_out_who_gave_up_before(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := start(ctx, trips, 5)
		rest := start(t.Context(), trips, 6)
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
		r.drive(t, first, 4)
		r.drive(t, rest, 1)
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{6})
	})
}

func TestTrips_go_on_for_the_others_when_one_gives_up(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		gaveUp := start(ctx, trips, 5)
		rest := start(t.Context(), trips, 6)
		pass() // both are on the way
		if err := <-gaveUp; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up got %v", err)
		}
		r.drive(t, first, 4)
		r.drive(t, rest, 1)
	})
}

func TestTrips_end_with_the_last_deadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, trips := newRoad()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		longer, cancelLonger := context.WithTimeout(t.Context(), time.Hour)
		defer cancelLonger()
		began := time.Now()
		errs := start(ctx, trips, 1, 2, 3, 4, 5)
		last := start(longer, trips, 6)
		for range 5 {
			if err := <-errs; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
		}
		if err := <-last; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		landed(t, trips)
	})
}

func TestTrips_that_fail_fail_for_all_on_them(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		rest := start(t.Context(), trips, 5, 6)
		pass()
		broken := errors.New("broken")
		for range 5 {
			r.allow <- broken
		}
		for _, err := range []error{<-rest, <-rest, <-first, <-first, <-first, <-first} {
			if !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestTrips_are_in_the_trace_of_the_first_who_is_sampled_and_link_the_others(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sampled []bool // of those on the trip, whose traces are 1, 2, ...
		trace   byte
		links   []byte
	}{
		"all":               {[]bool{true, true, true}, 1, []byte{2, 3}},
		"not the first one": {[]bool{false, true, false, true}, 2, []byte{4}},
		"only the last one": {[]bool{false, true}, 2, nil},
		"none":              {[]bool{false, false}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, trips := newRoad()
				first := start(t.Context(), trips, 1, 2, 3, 4)
				var rest []<-chan error
				for i, sampled := range test.sampled {
					id := byte(i + 1)
					span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{id}, SpanID: trace.SpanID{id}})
					span = span.WithTraceFlags(span.TraceFlags().WithSampled(sampled))
					rest = append(rest, start(trace.ContextWithSpanContext(t.Context(), span), trips, 5))
				}
				pass()
				ctx := r.ctxs[4]
				if got := trace.SpanContextFromContext(ctx).TraceID(); got != (trace.TraceID{test.trace}) {
					t.Errorf("it is in trace %v", got)
				}
				var links []byte
				for _, link := range SpanLinks(ctx) {
					links = append(links, link.SpanContext.TraceID()[0])
				}
				if !slices.Equal(links, test.links) {
					t.Errorf("it has links to the traces %v; want %v", links, test.links)
				}
				r.drive(t, first, 4)
				for _, errs := range rest {
					r.drive(t, errs, 1)
				}
			})
		})
	}
}

func TestTrips_let_nobody_wait_longer_who_came_later(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		second := start(t.Context(), trips, 5)
		<-time.After(MaxWait / 2)
		r.allow <- nil // 5 goes
		synctest.Wait()
		third := start(t.Context(), trips, 6)
		pass()
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5}, []int{6})
		r.drive(t, first, 4)
		r.drive(t, second, 1)
		r.drive(t, third, 1)
		landed(t, trips)
	})
}

func TestTrips_take_all_who_waited_too_long(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		rest := start(t.Context(), trips, slices.Repeat([]int{1}, 2*maxPassengers+1)...)
		pass()
		if len(r.sent) != 4+3 {
			t.Errorf("%d trips were made; want 3 more than 4", len(r.sent))
		}
		r.drive(t, first, 4)
		r.drive(t, rest, 2*maxPassengers+1)
		landed(t, trips)
	})
}
