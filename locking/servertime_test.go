package locking

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

// A clock of ours that was set must not carry the server's on: fences that are far ahead
// are the highest for as long, and after a flush those of new holders would be lower.
func TestServerTime_is_not_carried_on_by_a_clock_that_was_set(t *testing.T) {
	t.Parallel()
	server := mini.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	asked := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	began := systemClock()
	for name, test := range map[string]struct {
		mono, wall time.Duration // later
		carried    bool
		fresh      bool // the server is asked again
	}{
		"soon":                     {5 * time.Second, 5 * time.Second, true, false},
		"later":                    {time.Hour, time.Hour, true, true},
		"a step forward":           {10 * time.Second, 2 * time.Hour, false, true},
		"a small step forward":     {10 * time.Second, 30 * time.Second, false, true},
		"a step back":              {10 * time.Second, -time.Hour, false, true},
		"the machine has slept":    {time.Second, 10 * time.Hour, false, true},
		"clocks that differ a bit": {5 * time.Second, 5*time.Second + clocksApart/2, true, false},
	} {
		var s serverTime
		server.SetTime(asked)
		at := began
		now := func() instant { return at }
		if _, err := s.micros(t.Context(), client, now); err != nil {
			t.Fatal(err)
		}
		at = instant{mono: began.mono.Add(test.mono), wall: began.wall.Add(test.wall)}
		if least, most := s.carried(now); (least > 0) != test.carried || most < least {
			t.Errorf("%s: carried on to %d, %d at most", name, least, most)
		}
		server.SetTime(asked.Add(time.Minute))
		got, err := s.micros(t.Context(), client, now)
		if err != nil {
			t.Fatal(err)
		}
		if fresh := got == asked.Add(time.Minute).UnixMicro(); fresh != test.fresh {
			t.Errorf("%s: it says %s", name, time.UnixMicro(got).UTC())
		}
	}
}

// Each process counts from what the clock says at least: else one whose clock runs ahead
// gives fences that another, after a flush, gives again.
func TestServerTime_is_known_at_least_and_at_most(t *testing.T) {
	t.Parallel()
	asked := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	began := systemClock()
	for name, later := range map[string]struct{ mono, wall time.Duration }{
		"both right":             {time.Minute, time.Minute},
		"the wall clock ahead":   {10 * time.Second, 10*time.Second + clocksApart/2},
		"the wall clock behind":  {10 * time.Second, 10*time.Second - clocksApart/2},
		"the machine slept some": {9500 * time.Millisecond, 10 * time.Second},
	} {
		s := serverTime{last: answer{value: asked, at: began, took: time.Millisecond}}
		now := func() instant {
			return instant{mono: began.mono.Add(later.mono), wall: began.wall.Add(later.wall)}
		}
		least, most := s.carried(now)
		for clock, right := range map[string]time.Duration{"monotonic": later.mono, "wall": later.wall} {
			if truth := asked.Add(right).UnixMicro(); least > truth || most < truth+1000 {
				t.Errorf("%s: %d to %d, and the %s clock says %d", name, least, most, clock, truth)
			}
		}
		if least >= asked.Add(later.mono).UnixMicro() || time.Duration(most-least)*time.Microsecond > clocksApart {
			t.Errorf("%s: %d to %d", name, least, most)
		}
	}
}
