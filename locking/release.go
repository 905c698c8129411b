package locking

import (
	"context"
	"errors"
	"slices"
)

// errFree says that a master has, for sure, nothing of a claim.
var errFree = errors.New("the master has nothing of the claim")

func (c *quorumClaim) release(ctx context.Context, waited func()) error {
	c.mu.Lock()
	c.over = true
	standing := 0
	for _, s := range c.seats {
		if s.vote != nil {
			standing++
		}
	}
	c.mu.Unlock()
	released, free, open := 0, 0, len(c.nodes)
	had := standing
	confirmed := false // set before ask ends
	var failed error
	wake := func() { c.wake(ctx, waited) }
	c.round(ctx, round{
		key: c.keys.lock,
		do:  func(ctx context.Context, i int) error { return c.giveUp(ctx, i, waited) },
		heard: func(_ int, err error) bool {
			open--
			switch {
			case err == nil:
				released++
			case errors.Is(err, errGone):
				standing--
				free++
			case errors.Is(err, errFree):
				free++
			default:
				failed = worse(failed, err)
			}
			confirmed = released+free >= c.majority()
			return released >= c.majority()
		},
		finally: func() {
			if confirmed && !c.single() {
				wake() // the home may have answered last
				if c.holds() {
					c.spawn(c.releaseRest)
				}
			}
		},
	})
	if confirmed {
		wake()
	}
	switch {
	case !confirmed:
		return failed
	case had > 0 && standing < min(had, c.majority()):
		return errGone
	}
	return nil
}

func (c *quorumClaim) pending() bool {
	c.mu.Lock()
	asking := c.asking > 0
	c.mu.Unlock()
	return asking || c.holds()
}

// holds tells whether a master has, or may have, the lock.
func (c *quorumClaim) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.seats, func(s seat) bool { return s.vote != nil || s.unsure })
}

// giveUp gives back what one master has.
func (c *quorumClaim) giveUp(ctx context.Context, i int, waited func()) error {
	n, s, with := c.nodes[i], c.get(i), c.farewell(i)
	var err error
	switch {
	case s.vote != nil:
		err = n.release(ctx, s.vote, with)
	case s.unsure:
		if err = n.undo(ctx, c.keys, c.token, s.text, with); err == nil {
			err = errFree
		}
	default:
		return errFree
	}
	if err == nil || errors.Is(err, errGone) || errors.Is(err, errFree) {
		c.set(i, seat{})
	}
	if with != nil && with.waited() && (err == nil || errors.Is(err, errFree)) {
		if c.single() {
			if waited != nil {
				waited()
			}
			return err
		}
		c.mu.Lock()
		c.awaited = true
		c.mu.Unlock()
	}
	return err
}

// farewell goes with the release of the master on which waiters listen.
func (c *quorumClaim) farewell(i int) farewell {
	switch {
	case i != c.home(c.keys):
		return nil
	case c.single():
		return &ringing{queue: c.keys.queue}
	}
	return &asking{mark: c.keys.mark}
}

// wake wakes the next waiter once, if the home told of one. waited, if not nil, is
// called when it was there.
func (c *quorumClaim) wake(ctx context.Context, waited func()) {
	c.mu.Lock()
	awaited := c.awaited
	c.awaited = false
	c.mu.Unlock()
	if !awaited {
		return
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	heard, err := c.nodes[c.home(c.keys)].ring(own, c.keys)
	if err == nil && heard && waited != nil {
		waited()
	}
}

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
			do:  func(ctx context.Context, i int) error { return c.giveUp(ctx, i, nil) },
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
