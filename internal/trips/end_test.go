package trips

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestTrips_are_cancelled_when_the_last_one_gives_up(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		one, cancelOne := context.WithCancel(t.Context())
		other, cancelOther := context.WithCancel(t.Context())
		rest := []<-chan error{start(one, trips, 5), start(other, trips, 6)}
		pass()
		shared := r.ctxs[4]
		cancelOne()
		synctest.Wait()
		if shared.Err() != nil {
			t.Error("it was cancelled while someone was aboard")
		}
		cancelOther()
		synctest.Wait()
		if !errors.Is(context.Cause(shared), ErrDeserted) {
			t.Errorf("with nobody aboard its context says %v", context.Cause(shared))
		}
		for _, errs := range rest {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		}
		r.drive(t, first, 4)
		landed(t, trips)
	})
}

func TestTrips_that_are_shared_end_with_close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, trips := newRoad()
		first := start(t.Context(), trips, 1, 2, 3, 4)
		aboard := start(t.Context(), trips, 5)
		pass()
		waiting := start(t.Context(), trips, 6)
		trips.Close()
		trips.Wait()
		if len(trips.shared) != 0 {
			t.Error("a shared trip is still under way")
		}
		later := start(t.Context(), trips, 7)
		for who, errs := range map[string]<-chan error{"aboard": aboard, "waiting": waiting, "later": later} {
			if err := <-errs; !errors.Is(err, rediserr.ErrClosed) {
				t.Errorf("who was %s got %v", who, err)
			}
		}
		r.drive(t, first, 4)
		landed(t, trips)
		r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5})
	})
}

func TestTrips_survive_a_hook_that_does_not_return(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		act  func()
		says string
	}{
		"panics":              {func() { panic("C4n4ry") }, "panicked (string)"},
		"ends its goroutine":  {runtime.Goexit, "ended its goroutine"},
		"panics with nothing": {func() { panic(nil) }, "panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, trips := newRoad()
				var log strings.Builder
				trips.Log = slog.New(slog.NewTextHandler(&log, nil))
				now := make(chan struct{})
				r.acts[5] = func() { <-now; test.act() }
				first := start(t.Context(), trips, 1, 2, 3, 4)
				aboard := start(t.Context(), trips, 5, 6)
				r.allow <- nil // both go
				synctest.Wait()
				waiting := start(t.Context(), trips, 7)
				close(now)
				synctest.Wait()
				r.went(t, []int{1}, []int{2}, []int{3}, []int{4}, []int{5, 6}, []int{7})
				for range 2 {
					if err := <-aboard; !errors.Is(err, rediserr.ErrUnavailable) || !strings.Contains(err.Error(), "get") || !strings.Contains(err.Error(), test.says) {
						t.Errorf("who was aboard got %v", err)
					} else if strings.Contains(err.Error()+log.String(), "C4n4ry") {
						t.Errorf("the secret is in %v or in the log %s", err, log.String())
					}
				}
				if strings.Contains(test.says, "panicked") != strings.Contains(log.String(), "panicked") {
					t.Errorf("the log says %q", log.String())
				}
				r.drive(t, first, 4)
				r.drive(t, waiting, 1)
				landed(t, trips)
			})
		})
	}
}

func TestTrips_of_one_caller_panic_with_that_caller(t *testing.T) {
	t.Parallel()
	r, trips := newRoad()
	r.acts[1] = func() { panic("here") }
	func() {
		defer func() {
			if got := recover(); got != "here" {
				t.Errorf("it panicked with %v", got)
			}
		}()
		_ = trips.Do(t.Context(), 1)
	}()
	if trips.flying != 0 {
		t.Errorf("%d trips are still counted", trips.flying)
	}
}
