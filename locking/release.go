package locking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// errFree says that a master has, for sure, nothing of a claim; errNever, that it had
// nothing before either.
var (
	errFree  = errors.New("the master has nothing of the claim")
	errNever = fmt.Errorf("%w: %w", errFree, errUnasked)
)

func (c *quorumClaim) release(ctx context.Context, waited func(back time.Duration)) error {
	c.mu.Lock()
	c.over = true
	had := c.returned
	for _, s := range c.seats {
		if s.vote != nil || s.gone {
			had++
		}
	}
	fair, late := c.fair, c.late
	c.listens = fair
	c.mu.Unlock()
	home, word := c.home(c.keys), make(chan struct{})
	answered := sync.OnceFunc(func() { close(word) })
	spots := waited != nil && c.spots(late)
	released, free, open := 0, 0, len(c.nodes)
	confirmed := false // set before ask ends
	var failed error
	c.round(ctx, round{
		key: c.keys.lock,
		do: func(ctx context.Context, i int) error {
			if i == home {
				defer answered()
			}
			return c.giveUp(ctx, i, c.farewell(i, spots), waited)
		},
		heard: func(i int, err error) bool {
			if open--; i == home {
				answered() // it may rest
			}
			switch {
			case err == nil:
				released++
			case errors.Is(err, errGone), errors.Is(err, errFree):
				free++
			default:
				failed = worse(failed, err)
			}
			confirmed = released+free >= c.majority()
			enough := released >= c.majority()
			if confirmed && c.free() && !enough {
				c.spawn(func() { c.wake(ctx, waited) }) // the others may take their time
			}
			return enough
		},
		finally: func() {
			answered()
			if confirmed && !c.single() && (c.holds() || c.asksElsewhere()) {
				c.spawn(c.releaseRest)
			}
		},
	})
	if confirmed && fair && c.nodes[home].rest.until.Load() == 0 {
		moment := time.NewTimer(listenFor)
		select {
		case <-word:
		case <-moment.C:
		}
		moment.Stop()
	}
	if confirmed && !c.wake(ctx, waited) { // and let others go first, if there are any
		if back := c.wasLooked(); back > 0 && waited != nil {
			waited(back)
		}
	}
	switch {
	case !confirmed:
		return failed
	case had > 0 && had-c.gone() < min(had, c.majority()):
		return errGone
	}
	return nil
}

// gone is how many votes were lost: a renewal that was under way when the release began
// may have found that out, too.
func (c *quorumClaim) gone() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.seats {
		if s.gone {
			n++
		}
	}
	return n
}

func (c *quorumClaim) pending() bool {
	c.mu.Lock()
	asking := c.asking > 0
	c.mu.Unlock()
	return asking || c.holds()
}

// asksElsewhere tells, within a round, whether something else is being asked: of a
// master that rests, for example, behind which this round did not come.
func (c *quorumClaim) asksElsewhere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asking > 1
}

// holds tells whether a master has, or may have, the lock.
func (c *quorumClaim) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.seats, func(s seat) bool { return s.vote != nil || s.unsure })
}

// giveUp gives back what one master has.
func (c *quorumClaim) giveUp(ctx context.Context, i int, with farewell, waited func(back time.Duration)) error {
	n, s := c.nodes[i], c.get(i)
	var err error
	switch {
	case s.vote != nil:
		err = n.release(ctx, s.vote, with)
	case s.unsure:
		if err = n.undo(ctx, c.keys, c.token, s.text, with); err == nil {
			err = errFree
		}
	default:
		if i == c.home(c.keys) && !c.single() && c.grant().fence > 0 {
			if c.await() { // it may have waiters, and had no part in the lease
				c.spawn(func() { c.wake(ctx, waited) })
			}
		}
		return errNever
	}
	switch {
	case errors.Is(err, errGone) && s.leaving:
		err = nil // the release before this one got through
	case err != nil && !errors.Is(err, errGone) && !errors.Is(err, errFree):
		if s.leaving = s.leaving || rediserr.MayHaveRun(err); s.vote != nil {
			c.set(i, s)
		}
		return err
	}
	c.mu.Lock()
	c.seats[i] = seat{gone: s.gone || errors.Is(err, errGone)}
	if s.vote != nil && err == nil {
		c.returned++
	}
	c.mu.Unlock()
	switch {
	case with == nil || !with.waited():
	case i != c.home(c.keys):
		if spot, ok := with.(*spotting); ok {
			c.looks(spot.seen)
		}
	case !c.single():
		if c.await() {
			c.spawn(func() { c.wake(ctx, waited) })
		}
	case err == nil && waited != nil:
		waited(0)
	}
	return err
}

// await notes that somebody is to be woken. It is true if that may be done: a majority
// is free, and this is the only one who says so.
func (c *quorumClaim) await() (due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due = c.freed && !c.awaited && !c.listens
	c.awaited = true
	return due
}

// free notes that a majority is free. It is true if somebody is to be woken.
func (c *quorumClaim) free() (due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed = true
	return c.awaited
}

// farewell goes with the release of the master on which waiters listen, or, if spots, of
// another.
func (c *quorumClaim) farewell(i int, spots bool) farewell {
	switch {
	case i != c.home(c.keys):
		if spots {
			return &spotting{mark: c.keys.mark, own: c.id}
		}
		return nil
	case c.single():
		return &ringing{queue: c.keys.queue}
	}
	return &asking{mark: c.keys.mark}
}

// wake wakes the next waiter, if somebody is to be woken and was not yet. waited, if not
// nil, is called when a waiter was there, which it tells. A home that does not answer
// wakes nobody: waiters look for themselves.
func (c *quorumClaim) wake(ctx context.Context, waited func(back time.Duration)) (heard bool) {
	home := c.nodes[c.home(c.keys)]
	c.mu.Lock()
	due := c.awaited && home.rest.until.Load() == 0
	c.awaited, c.listens = false, false
	c.mu.Unlock()
	if !due {
		return false
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeTimeout)
	defer cancel()
	heard, err := home.ring(own, c.keys)
	if heard = err == nil && heard; heard && waited != nil {
		waited(0)
	}
	return heard
}

// listenFor is how long a release of a lock that others want waits for the home to say
// so, when a majority has answered: who does not know of them would take the lock again
// before they can.
const listenFor = 20 * time.Millisecond

// wakeTimeout bounds the waking of a waiter, who looks by itself after a second.
const wakeTimeout = time.Second

// releaseRest goes on with the masters that did not confirm, until the lock has
// expired there.
func (c *quorumClaim) releaseRest() {
	c.mu.Lock()
	longest := c.longest
	c.mu.Unlock()
	c.persist(longest, func(ctx context.Context) error {
		var failed error
		c.round(ctx, round{
			key: c.keys.lock,
			do:  func(ctx context.Context, i int) error { return c.giveUp(ctx, i, c.farewell(i, false), nil) },
			heard: func(_ int, err error) bool {
				if !errors.Is(err, errFree) && !errors.Is(err, errGone) {
					failed = worse(failed, err)
				}
				return false
			},
		})
		return failed
	})
}
