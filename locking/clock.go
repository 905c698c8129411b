package locking

import "time"

// instant is one moment, read from two clocks: the monotonic one, which an
// operator cannot set but which stands still while a machine is suspended
// (CLOCK_MONOTONIC), and the wall clock, which goes on but may be set.
type instant struct {
	mono time.Time // as time.Now gives it
	wall time.Time // without monotonic reading
}

// clock tells the time. Tests put their own in its place.
type clock func() instant

func systemClock() instant {
	now := time.Now()
	return instant{mono: now, wall: now.Round(0)}
}

// since is the time from earlier to i by the clock that saw more of it: whoever
// asks wants to know how much Redis may have counted meanwhile.
func (i instant) since(earlier instant) time.Duration {
	return max(i.mono.Sub(earlier.mono), i.wall.Sub(earlier.wall))
}

// clockRate is the part of a time by which a clock may be wrong about it. Quartz is
// wrong by a fifth of that.
const clockRate = 1000

// between is the time from earlier to i, at least and at most.
func (i instant) between(earlier instant) (least, most time.Duration) {
	mono, wall := i.mono.Sub(earlier.mono), i.wall.Sub(earlier.wall)
	least, most = min(mono, wall), max(mono, wall)
	return least - most.Abs()/clockRate, most + most.Abs()/clockRate
}

// clocksApart is by how much two clocks may differ in what they saw.
const clocksApart = time.Second

// agrees tells whether both clocks saw as much since earlier. They do not after a
// suspension, or when the wall clock was set.
func (i instant) agrees(earlier instant) bool {
	return (i.wall.Sub(earlier.wall) - i.mono.Sub(earlier.mono)).Abs() <= clocksApart
}

// drift is the part of a TTL that a holder does not use: Redis' clock may run
// a little faster than ours, and a holder needs a moment to notice the end.
func drift(ttl time.Duration) time.Duration {
	return ttl/50 + 10*time.Millisecond
}
