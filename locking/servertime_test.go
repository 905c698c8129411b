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
		"soon":                     {10 * time.Second, 10 * time.Second, true, false},
		"later":                    {time.Hour, time.Hour, true, true},
		"a step forward":           {10 * time.Second, 2 * time.Hour, false, true},
		"a small step forward":     {10 * time.Second, 30 * time.Second, false, true},
		"a step back":              {10 * time.Second, -time.Hour, false, true},
		"the machine has slept":    {time.Second, 10 * time.Hour, false, true},
		"clocks that differ a bit": {10 * time.Second, 10*time.Second + clocksApart/2, true, false},
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
