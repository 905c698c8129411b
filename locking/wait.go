package locking

import (
	"math/rand/v2"
	"time"
)

// waiter tells Acquire when to try a held resource again.
type waiter interface {
	// listen starts to wait for the resource's release, for atMost the given
	// time. polite says that others go first if the resource is free by now.
	listen(k lockKeys, atMost time.Duration, polite bool) vigil
	// close gives up connections. Every vigil has ended, or is to end now.
	close()
}

// vigil is one wait. It is used by one goroutine.
type vigil interface {
	// rung gets a value when the resource was released and the turn is ours.
	rung() <-chan struct{}
	// listens tells whether a ring would be heard.
	listens() bool
	// again listens for another ring after one that led to nothing.
	again()
	// patience is how long to wait for a ring before looking at the lock
	// itself, which its holder keeps for remaining (0: unknown).
	patience(remaining time.Duration) time.Duration
	// pass passes on to the next waiter, in the background, a ring that rung told of
	// and that was not used.
	pass()
	// end stops listening, in the background where that takes time. A ring that rung
	// did not tell of is passed on.
	end()
}

// Polling, where Redis cannot wake us.
const (
	pollFirst = 5 * time.Millisecond
	pollLast  = 100 * time.Millisecond
)

// poller is a vigil that never hears anything and therefore looks often.
type poller struct{ looks int }

func (*poller) rung() <-chan struct{} { return nil }
func (*poller) listens() bool         { return false }
func (*poller) again()                {}
func (*poller) pass()                 {}
func (*poller) end()                  {}

func (p *poller) patience(remaining time.Duration) time.Duration {
	pause := min(pollFirst<<min(p.looks, 16), pollLast)
	p.looks++
	if remaining > 0 {
		pause = min(pause, remaining)
	}
	return jitter(pause)
}

// jitter spreads d by a half in both directions, so that those who were woken
// together do not meet again.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}
