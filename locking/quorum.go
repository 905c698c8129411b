package locking

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync/atomic"
	"time"
)

// quorum speaks for all masters: one, which is its own majority, or several that
// know nothing of each other (Redlock, https://redis.io/docs/latest/develop/use/patterns/distributed-locks).
// Above it nobody knows how many there are.
type quorum struct {
	nodes      []*node
	id         string // of the Manager, among those who look
	spotEvery  int    // see spots; 0: only when nobody can be woken
	now        clock
	quarantine time.Duration // for which a master that was started gives no vote
	spawn      func(func())  // runs something in the background
	crew       *crew         // runs what asks masters
	persist    func(atMost time.Duration, do func(context.Context) error)
}

func (q *quorum) majority() int { return len(q.nodes)/2 + 1 }

func (q *quorum) single() bool { return len(q.nodes) == 1 }

// claim begins what one token has on the masters.
func (q *quorum) claim(k lockKeys, token string) claim {
	return &quorumClaim{quorum: q, keys: k, token: token, seats: make([]seat, len(q.nodes))}
}

func (q *quorum) close() {
	for _, n := range q.nodes {
		n.pipes.close()
	}
}

// home is the one master on which the waiters of a resource meet. Processes agree
// on it if they name the masters in the same order.
func (q *quorum) home(k lockKeys) int {
	if q.single() {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(k.lock))
	return int(h.Sum32() % uint32(len(q.nodes)))
}

// clock is the latest time that any master is known to have, in microseconds: at
// least, from which all masters count, so that they give the same fence; and at
// most. 0 if none was asked yet.
func (q *quorum) clock() (least, most int64) {
	for _, n := range q.nodes {
		l, m := n.time.carried(q.now)
		least, most = max(least, l), max(most, m)
	}
	return least, most
}

// errUnasked says that a master has no part in what it was to be asked, so that there was
// no I/O.
var errUnasked = errors.New("the master was not asked")

// round is one question to all masters.
type round struct {
	key string // that of the lock: what is asked about it on one master keeps its order
	// do asks a master. It notes itself what it finds, since it may go on when the
	// round is over.
	do func(ctx context.Context, i int) error
	// heard is told the answers, one after the other and where they arrive, until it has
	// enough of them.
	heard func(i int, err error) (enough bool)
	// finally, if not nil, runs after the last answer and the end of ask.
	finally func()
}

// hastyCall is the least time that a call must have for a master that does not answer
// by then to be left alone. All of ours have more, except the last renewals of a lease
// that nobody renewed for long.
const hastyCall = MinTTL / 4

// ask plays a round. ctx has a deadline; masters that did not answer by then are
// told as an outage, and those that were not waited for go on until then.
func (q *quorum) ask(ctx context.Context, r round) {
	if q.single() {
		r.heard(0, r.do(ctx, 0))
		return
	}
	var open atomic.Int32
	open.Store(int32(len(q.nodes)) + 1)
	own, cancel := outlive(ctx)
	deadline, _ := own.Deadline()
	hasty := time.Until(deadline) < hastyCall
	finish := func() {
		if open.Add(-1) > 0 {
			return
		}
		cancel()
		if r.finally != nil {
			r.finally()
		}
	}
	defer finish()
	t := newTally(len(q.nodes), r.heard)
	resting := q.resting()
	for i, n := range q.nodes {
		if resting[i] {
			t.count(i, errResting)
			finish()
			continue
		}
		seen := n.rest.seen()
		place := n.lanes.enter(r.key) // here, and not in the goroutine: in the order of the calls
		q.crew.run(func() {
			defer finish()
			place.wait()
			defer place.leave()
			err := contextError(own)
			if err == nil {
				err = r.do(own, i)
				switch {
				case errors.Is(err, errUnasked):
					n.rest.unasked(seen)
				case hasty && own.Err() != nil: // that it takes longer says nothing
				default:
					n.rest.note(err)
				}
			}
			t.count(i, err)
		})
	}
	t.wait(ctx)
}

// outlive makes a context that has the deadline of ctx, but does not end with it
// before.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(opTimeout)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

func contextError(ctx context.Context) error { return wrap("locking: ask the masters", ctx.Err()) }

// resting tells which masters are not asked, since they did not answer a moment
// ago: a minority, or none.
func (q *quorum) resting() []bool {
	resting, n := make([]bool, len(q.nodes)), 0
	for _, node := range q.nodes {
		if node.rest.until.Load() != 0 {
			n++
		}
	}
	if n > len(q.nodes)-q.majority() {
		return resting
	}
	for i, node := range q.nodes {
		resting[i] = node.rest.now()
	}
	return resting
}

// remaining is how long it takes, at least, until a majority of the masters is free,
// if nobody renews.
func (q *quorum) remaining(ctx context.Context, k lockKeys, again time.Duration) (time.Duration, error) {
	home := q.home(k)
	var failed error
	all := make([]time.Duration, len(q.nodes)) // each written by its own call
	var known []time.Duration
	free, open := 0, len(q.nodes)
	q.ask(ctx, round{
		key: k.lock,
		do: func(ctx context.Context, i int) (err error) {
			g := glance{by: q.id, again: again}
			if i == home {
				g.again = 0 // there it listens
			}
			all[i], err = q.nodes[i].remaining(ctx, k, g)
			return err
		},
		heard: func(i int, err error) bool {
			if open--; err != nil {
				failed = worse(failed, err)
			} else {
				known = append(known, all[i])
				if all[i] <= 0 {
					free++
				}
			}
			return free >= q.majority() || (len(known) >= q.majority() && free+open < q.majority())
		},
	})
	if len(known) < q.majority() {
		return 0, q.short(failed, len(q.nodes)-open-len(known))
	}
	known = append(known, make([]time.Duration, open)...) // who was not waited for may be free
	slices.Sort(known)
	return known[q.majority()-1], nil
}

// raise has a majority of the masters count from fence.
func (q *quorum) raise(ctx context.Context, k lockKeys, fence uint64) error {
	know, open := 0, len(q.nodes)
	var failed error
	q.ask(ctx, round{
		key: k.lock,
		do:  func(ctx context.Context, i int) error { return q.nodes[i].raise(ctx, k, fence) },
		heard: func(_ int, err error) bool {
			open--
			if err == nil {
				know++
			} else {
				failed = worse(failed, err)
			}
			return know >= q.majority() || know+open < q.majority()
		},
	})
	if know >= q.majority() {
		return nil
	}
	return failed
}

// short says of an error how many masters gave one.
func (q *quorum) short(err error, failed int) error {
	if q.single() {
		return err
	}
	return fmt.Errorf("locking: %d of %d masters failed: %w", failed, len(q.nodes), err)
}

// worse keeps the error that says more: an outage or a refusal over a plain
// no.
func worse(a, b error) error {
	if a == nil || errors.Is(a, errHeld) || errors.Is(a, errGone) {
		return b
	}
	return a
}
