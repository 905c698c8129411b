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
			if confirmed && !c.single() && c.holds() {
				c.spawn(c.releaseRest)
			}
		},
	})
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
	n, s := c.nodes[i], c.get(i)
	var err error
	switch {
	case s.vote != nil:
		bell := c.bell(i)
		err = n.release(ctx, s.vote, bell)
		if err == nil && waited != nil && bell.heard() {
			waited()
		}
	case s.unsure:
		if err = n.undo(ctx, c.keys, c.token, s.text, c.bell(i)); err == nil {
			err = errFree
		}
	default:
		return errFree
	}
	if err == nil || errors.Is(err, errGone) || errors.Is(err, errFree) {
		c.set(i, seat{})
	}
	return err
}

// bell wakes the next waiter, on the master where waiters listen.
func (c *quorumClaim) bell(i int) *ringing {
	if i != c.home(c.keys) {
		return nil
	}
	return &ringing{queue: c.keys.queue}
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
