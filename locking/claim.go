package locking

import (
	"context"
	"errors"
	"sync"
	"time"
)

// claim is what one token has on the masters: of an acquisition, then of the lease
// that it became. It is safe for concurrent use; obtain and extend are called one
// at a time.
type claim interface {
	// obtain asks for the lock; again, with the same token, where it is not known
	// what came of it. It returns errHeld (a heldError) if another has the lock.
	// After any other error release takes back what may have been granted.
	obtain(ctx context.Context, ttl time.Duration) error
	// extend returns errGone if the lease is no longer known.
	extend(ctx context.Context, ttl time.Duration) error
	// release returns errGone if the lease was no longer known. It calls waited,
	// if not nil, when it hears that a waiter was there, perhaps after it returned: one
	// that was woken, or (back > 0) looks for itself within that time.
	release(ctx context.Context, waited func(back time.Duration)) error
	// grant is what the last obtain gave.
	grant() grant
	// contend says that others want the lock too: then release takes a moment to hear
	// of them, and asks more masters if they were heard of too late before.
	contend(late bool)
	// pending tells whether a master has, or may have, something to take back.
	pending() bool
}

// grant is what the masters agreed on.
type grant struct {
	fence    uint64
	previous string    // token of the grant before, "" if unknown
	steady   time.Time // since when no master that told so can have forgotten another
}

// heldError is an errHeld that says more.
type heldError struct {
	left  time.Duration // it makes no sense to ask again before; 0: unknown
	split bool          // nobody seems to have a majority
	// several says that there are several masters: a release reaches one before
	// the others.
	several bool
}

func (h *heldError) Error() string      { return errHeld.Error() }
func (*heldError) Is(target error) bool { return target == errHeld }

// quorumClaim is a claim on all masters.
//
// The lease stands as long as a majority of the masters that granted it knows it
// without a gap. A master that lost it, or never had it, is asked for it after each
// renewal, so that the majority does not wear down; it counts from the next one on.
type quorumClaim struct {
	*quorum
	keys  lockKeys
	token string

	mu       sync.Mutex
	seats    []seat // by master
	granted  grant
	over     bool          // it is being given back: nothing may be obtained any more
	returned int           // votes that were given back, and not lost
	awaited  bool          // somebody is to be woken
	looked   time.Duration // somebody looks again within that time who hears nothing
	freed    bool          // a majority has it no more
	fair     bool          // others want it too
	late     bool          // and were heard of too late before
	listens  bool          // release waits for what the home says of waiters
	longest  time.Duration // that a master may keep it
	asking   int           // rounds and calls that are not over
}

// seat is what a claim has on one master.
type seat struct {
	vote   *vote // not nil: it has the lock, as far as we know
	unsure bool  // it may have it
	// leaving says that a release was sent and it is not known what came of it: if the
	// master does not know the vote then, that may be why.
	leaving bool
	gone    bool // it lost the vote since it was granted: a renewal or a release told so
	// text is what stands behind the token there. A command that arrives late, of an
	// attempt whose outcome is not known, so changes nothing; and a release that
	// arrives late does not take what was obtained after it.
	text string
}

func (c *quorumClaim) grant() grant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.granted
}

func (c *quorumClaim) contend(late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fair = !c.single()
	c.late = c.fair && late
}

// last notes how long masters may keep what they are asked for.
func (c *quorumClaim) last(ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, ttl)
}

func (c *quorumClaim) set(i int, s seat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats[i] = s
}

// text is what stands behind the token on a master.
func (c *quorumClaim) text(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seats[i].text == "" {
		n := c.nodes[i]
		c.seats[i].text = holder{n.by, n.time.approximate(c.now)}.text()
	}
	return c.seats[i].text
}

// begin counts something that is asked, until the returned function is called.
func (c *quorumClaim) begin() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asking--
	}
}

// round asks all masters.
func (c *quorumClaim) round(ctx context.Context, r round) {
	if c.single() {
		c.ask(ctx, r)
		return
	}
	end, finally := c.begin(), r.finally
	r.finally = func() {
		if finally != nil {
			finally()
		}
		end()
	}
	c.ask(ctx, r)
}

func (c *quorumClaim) get(i int) seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seats[i]
}

// ballot is one obtain.
type ballot struct {
	claim *quorumClaim
	lost  bool // guarded by the claim's mu: what is granted from now on is too late

	votes      []*vote        // that count
	held       int            // masters that another has
	by         map[string]int // how many each other has
	open       int            // masters that did not answer yet
	suspects   int            // masters whose votes do not count
	quarantine time.Duration  // that is left of theirs; the shortest
	failed     error          // the worst
}

func (c *quorumClaim) obtain(ctx context.Context, ttl time.Duration) error {
	b := &ballot{claim: c, open: len(c.nodes), by: make(map[string]int)}
	seed, _ := c.clock() // the same for all, so that they give the same fence
	c.last(ttl)
	c.round(ctx, round{
		key: c.keys.lock,
		do: func(ctx context.Context, i int) error {
			return b.poll(ctx, i, want{token: c.token, text: c.text(i), ttl: ttl, seed: seed, quarantine: c.quarantine})
		},
		heard: func(i int, err error) bool {
			b.count(i, err)
			return b.decided()
		},
	})
	if len(b.votes) < c.majority() {
		b.retreat(ctx)
		return b.why()
	}
	g, err := c.number(ctx, b.votes)
	if err != nil {
		b.retreat(ctx)
		return err
	}
	c.mu.Lock()
	c.granted = g
	c.mu.Unlock()
	return nil
}

// poll asks one master.
func (b *ballot) poll(ctx context.Context, i int, w want) error {
	c := b.claim
	asked := c.get(i).unsure
	v, err := c.nodes[i].obtain(ctx, c.keys, w)
	if err == nil && asked {
		v.fresh = true // the counter may be of the attempt that nobody heard of
	}
	c.took(i, v, err)
	c.mu.Lock()
	late := b.lost
	c.mu.Unlock()
	if err == nil && late {
		c.quit(ctx, i)
	}
	return err
}

// took notes what came of an obtain.
func (c *quorumClaim) took(i int, v *vote, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.seats[i].vote, c.seats[i].unsure, c.seats[i].gone = v, false, false
	case errors.Is(err, errHeld):
		c.seats[i].vote, c.seats[i].unsure = nil, false
	case maybeGranted(err):
		c.seats[i].unsure = true
	}
}

func (b *ballot) count(i int, err error) {
	b.open--
	var v *vote
	if err == nil {
		v = b.claim.get(i).vote
	}
	switch {
	case errors.Is(err, errHeld):
		b.held++
		if taken, ok := errors.AsType[*takenError](err); ok {
			b.by[taken.by]++
		}
	case err != nil:
		b.failed = worse(b.failed, err)
	case v.quarantine > 0:
		b.suspects++
		if b.quarantine == 0 || v.quarantine < b.quarantine {
			b.quarantine = v.quarantine
		}
	default:
		b.votes = append(b.votes, v)
	}
}

// decided tells whether what is still open changes nothing: neither whether the lock is
// granted, nor, if not, whether others have it or too few masters answer.
func (b *ballot) decided() bool {
	majority, answered := b.claim.majority(), b.answered()
	if len(b.votes) >= majority {
		return true
	}
	return len(b.votes)+b.open < majority && (answered >= majority || answered+b.open < majority)
}

// answered is how many masters said whether they grant it. (Whoever was forgotten in a
// quarantine may still have it.)
func (b *ballot) answered() int { return len(b.votes) + b.held + b.suspects }

// retreat gives back what a minority granted. It does not wait for that: what is
// asked next comes after it.
func (b *ballot) retreat(ctx context.Context) {
	c := b.claim
	c.mu.Lock()
	b.lost = true
	var back []int
	for i, s := range c.seats {
		if s.vote != nil {
			back = append(back, i)
		}
	}
	c.mu.Unlock()
	if c.single() {
		for range back {
			c.quit(ctx, 0)
		}
		return
	}
	for _, i := range back {
		c.behind(ctx, i, func(ctx context.Context) { c.quit(ctx, i) })
	}
}

// behind has do called in the background, after what is being asked of a master
// about the lock.
func (c *quorumClaim) behind(ctx context.Context, i int, do func(context.Context)) {
	end, place := c.begin(), c.nodes[i].lanes.enter(c.keys.lock)
	c.spawn(func() {
		defer end()
		place.wait()
		defer place.leave()
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		do(own)
	})
}

// quit gives one vote back. Nobody is woken: the lock may well be held by another,
// and those who are woken in vain would wake each other in turn.
func (c *quorumClaim) quit(ctx context.Context, i int) {
	s := c.get(i)
	if s.vote == nil {
		return
	}
	err := c.nodes[i].release(ctx, s.vote, nil)
	if err == nil || errors.Is(err, errGone) {
		c.set(i, seat{})
		return
	}
	// Without its text: this release may still be on its way.
	c.set(i, seat{unsure: true})
}

// why is the reason for which there was no majority.
func (b *ballot) why() error {
	if b.failed != nil && b.answered() < b.claim.majority() {
		return b.claim.short(b.failed, len(b.claim.nodes)-b.open-b.answered())
	}
	most := 0
	for _, n := range b.by {
		most = max(most, n)
	}
	return &heldError{left: b.quarantine, split: most < b.claim.majority() && b.suspects == 0, several: !b.claim.single()}
}

// number gives the fence of a grant: the highest that a vote has. A majority knows
// it before it is given out, so that whoever is granted next gets a higher one.
//
// A counter that was not there is new, or was lost with the fences that it gave a
// moment ago, by a process that knows the clock of Redis better. So the fence is
// then above what that clock says at most, by our own knowledge.
func (c *quorumClaim) number(ctx context.Context, votes []*vote) (grant, error) {
	g := grant{fence: votes[0].fence, previous: votes[0].previous}
	for _, v := range votes {
		g.fence = max(g.fence, v.fence)
		if v.previous != g.previous {
			g.previous = "" // not known for sure
		}
		if v.steady.After(g.steady) {
			g.steady = v.steady
		}
		if v.fresh {
			_, most := c.clock()
			g.fence = max(g.fence, uint64(max(most, 0))+1)
		}
	}
	know := 0
	for _, v := range votes {
		if v.fence == g.fence {
			know++
		}
	}
	if know >= c.majority() {
		return g, nil
	}
	return g, c.raise(ctx, c.keys, g.fence)
}
