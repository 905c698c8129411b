package locking

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Where waiters cannot be woken they look at the lock, and leave a mark of that on the
// masters on which nobody listens. Who releases the lock sees it there, and steps back
// until they have looked again.

const (
	// lookPolling and lookListening are in what time a waiter looks again, at the latest,
	// who hears nothing, and who would hear a ring.
	lookPolling   = 2 * pollLast
	lookListening = bellPatience * 5 / 4
	// lookGrace is how much longer the mark of a look stays.
	lookGrace = pollLast
	// spotEvery is how many releases there are for one that asks for marks although
	// waiters can be woken.
	spotEvery = 8
)

// glance is the look of a waiter.
type glance struct {
	by    string        // Manager
	again time.Duration // in what time it looks again, at the latest
}

const lookPrefix = "look:"

func (g glance) text() string {
	return lookPrefix + strconv.FormatInt(g.again.Milliseconds(), 10) + ":" + g.by
}

// parseGlance is the inverse of text. A mark of who listens is none of a look: after a change
// of the masters it may still be there.
func parseGlance(text string) (g glance, ok bool) {
	rest, ok := strings.CutPrefix(text, lookPrefix)
	if !ok {
		return glance{}, false
	}
	digits, by, _ := strings.Cut(rest, ":")
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || ms <= 0 || ms > lookListening.Milliseconds() {
		return glance{}, false
	}
	return glance{by: by, again: time.Duration(ms) * time.Millisecond}, true
}

// spotting asks, on a master where nobody listens, for who looked at the lock last. It may
// be ourselves, before we had it.
type spotting struct {
	mark string
	own  string
	last *redis.StringCmd
	seen glance
}

func (*spotting) before(context.Context, redis.Pipeliner) {}

func (s *spotting) after(ctx context.Context, pipe redis.Pipeliner) { s.last = pipe.Get(ctx, s.mark) }

func (s *spotting) waited() bool {
	if s.last == nil {
		return false
	}
	g, ok := parseGlance(s.last.Val())
	s.seen = g
	return ok && g.by != s.own
}

// forget removes the marks of a lock where nobody listens.
func (q *quorum) forget(ctx context.Context, k lockKeys) {
	home := q.home(k)
	q.ask(ctx, round{
		key: k.lock,
		do: func(ctx context.Context, i int) error {
			if i == home {
				return errUnasked
			}
			return q.nodes[i].client.Del(ctx, k.mark).Err()
		},
		heard: func(int, error) bool { return true },
	})
}

// spots tells whether a release asks for those who look: when its home did not answer a
// moment ago, when it is known that somebody waits, and seldom else, because it may not
// answer others.
func (c *quorumClaim) spots(known bool) bool {
	if c.single() {
		return false
	}
	return known || c.nodes[c.home(c.keys)].rest.until.Load() != 0 || (c.spotEvery > 0 && rand.N(c.spotEvery) == 0)
}

// looks notes that somebody looks at the lock who hears nothing.
func (c *quorumClaim) looks(g glance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = max(c.looked, g.again)
}

// wasLooked tells, once, for how long to let those go first who look.
func (c *quorumClaim) wasLooked() (back time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	back, c.looked = c.looked, 0
	return back
}

// stepBack lets those go first who look at the lock once in a while, since nobody wakes
// them: until one has it, or each must have looked. It takes half of what is left of the
// wait at most, so that the lock is asked for in any case. If nobody came, they are
// forgotten: whoever left a mark may have gone since.
func (a *acquisition) stepBack(ctx context.Context, atMost time.Duration) error {
	m := a.manager
	own, cancel := context.WithTimeout(ctx, min(atMost, time.Until(a.bound)/2))
	defer cancel()
	for own.Err() == nil {
		remaining, err := m.masters.remaining(own, a.keys, 0)
		if err == nil && remaining > 0 {
			return nil
		}
		_ = sleep(own, jitter(pollLast/4))
	}
	if ctx.Err() != nil {
		return gaveUp(ctx)
	}
	m.spawn(func() {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeTimeout)
		defer cancel()
		m.masters.forget(own, a.keys)
	})
	return nil
}
