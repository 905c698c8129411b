package locking

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func (c *quorumClaim) extend(ctx context.Context, ttl time.Duration) error {
	c.last(ttl)
	confirmed, standing := 0, 0
	for i := range c.nodes {
		if c.get(i).vote != nil {
			standing++
		}
	}
	var failed error
	c.round(ctx, round{
		key: c.keys.lock,
		do:  func(ctx context.Context, i int) error { return c.renew(ctx, i, ttl) },
		heard: func(_ int, err error) bool {
			switch {
			case err == nil:
				confirmed++
			case errors.Is(err, errGone):
				standing--
			case !errors.Is(err, errAbsent):
				failed = worse(failed, err)
			}
			return confirmed >= c.majority() || standing < c.majority()
		},
		finally: func() {
			if standing >= c.majority() {
				c.regain(ctx, ttl)
			}
		},
	})
	switch {
	case confirmed >= c.majority():
		return nil
	case standing < c.majority() || failed == nil: // or it was lost while this was asked
		return errGone
	}
	return failed
}

// errAbsent says that a master had no part in a lease.
var errAbsent = fmt.Errorf("the master did not grant the lease: %w", errUnasked)

// renew extends one vote.
func (c *quorumClaim) renew(ctx context.Context, i int, ttl time.Duration) error {
	s := c.get(i)
	if s.vote == nil {
		return errAbsent
	}
	err := c.nodes[i].extend(ctx, s.vote, ttl)
	if errors.Is(err, errGone) {
		c.mu.Lock()
		if !c.seats[i].leaving { // else a release of ours may be why
			c.seats[i] = seat{gone: true}
		}
		c.mu.Unlock()
	}
	return err
}

// regain asks the masters that have no part in a lease that stands. It does not wait
// for them: they count from the next renewal on.
func (c *quorumClaim) regain(ctx context.Context, ttl time.Duration) {
	if c.single() {
		return
	}
	resting := c.resting()
	seed, _ := c.clock()
	seed = max(seed, int64(c.grant().fence))
	for i, n := range c.nodes {
		if resting[i] {
			continue
		}
		seen := n.rest.seen()
		if c.get(i).vote != nil || c.ended() {
			n.rest.unasked(seen)
			continue
		}
		c.behind(ctx, i, func(ctx context.Context) {
			if c.get(i).vote != nil || c.ended() { // what gives the lease back comes behind us, or was here
				n.rest.unasked(seen)
				return
			}
			v, err := n.obtain(ctx, c.keys, want{token: c.token, text: c.text(i), ttl: ttl, seed: seed, again: true, quarantine: c.quarantine})
			c.took(i, v, err)
			n.rest.note(err)
		})
	}
}

func (c *quorumClaim) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}
