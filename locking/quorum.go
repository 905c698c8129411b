package locking

import (
	"context"
	"errors"
	"time"
)

// grant is what the masters agreed on: one token and one fence.
type grant struct {
	fence    uint64
	previous string  // token of the grant before, "" if unknown
	votes    []*vote // by master; nil where it did not grant
}

// quorum speaks for all masters. There is one today, which is its own
// majority; asking several at the same time, raising the fences of those
// behind and not counting one that just restarted are the next step, and this
// is where they go. Above it nobody knows how many masters there are.
type quorum struct {
	nodes []*node
}

func (q *quorum) majority() int { return len(q.nodes)/2 + 1 }

// obtain returns errHeld if another has the lock. After any other error the
// lock may have been taken; undo takes it back.
func (q *quorum) obtain(ctx context.Context, k lockKeys, token string, ttl time.Duration) (*grant, error) {
	g := &grant{votes: make([]*vote, len(q.nodes))}
	var failed error
	granted := 0
	for i, n := range q.nodes {
		v, err := n.obtain(ctx, k, token, ttl)
		if err != nil {
			failed = worse(failed, err)
			continue
		}
		granted++
		g.votes[i] = v
		if v.fence > g.fence {
			g.fence, g.previous = v.fence, v.previous
		}
	}
	if granted < q.majority() {
		return nil, failed
	}
	return g, nil
}

// extend returns errGone if the lease is no longer known.
func (q *quorum) extend(ctx context.Context, g *grant, ttl time.Duration) error {
	return q.each(g, func(n *node, v *vote) error { return n.extend(ctx, v, ttl) })
}

// release returns errGone if the lease was no longer known; waited tells
// whether a waiter was there.
func (q *quorum) release(ctx context.Context, k lockKeys, g *grant) (waited bool, err error) {
	err = q.each(g, func(n *node, v *vote) error {
		heard, err := n.release(ctx, k, v)
		waited = waited || heard
		return err
	})
	return waited, err
}

// each does the same on every master that granted, and succeeds if a majority
// did.
func (q *quorum) each(g *grant, do func(*node, *vote) error) error {
	var failed error
	done := 0
	for i, n := range q.nodes {
		if g.votes[i] == nil {
			continue
		}
		if err := do(n, g.votes[i]); err != nil {
			failed = worse(failed, err)
			continue
		}
		done++
	}
	if done < q.majority() {
		return failed
	}
	return nil
}

// undo takes back whatever token got.
func (q *quorum) undo(ctx context.Context, k lockKeys, token string) error {
	var failed error
	for _, n := range q.nodes {
		if err := n.undo(ctx, k, token); err != nil {
			failed = worse(failed, err)
		}
	}
	return failed
}

// remaining is how long the lock stays held if nobody renews it.
func (q *quorum) remaining(ctx context.Context, k lockKeys) (time.Duration, error) {
	return q.home(k).remaining(ctx, k)
}

// home is the one master on which the waiters of a resource meet.
func (q *quorum) home(lockKeys) *node { return q.nodes[0] }

// worse keeps the error that says more: an outage or a refusal over a plain
// no.
func worse(a, b error) error {
	if a == nil || errors.Is(a, errHeld) || errors.Is(a, errGone) {
		return b
	}
	return a
}
