package locking

import (
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/keys"
)

// What has nothing to ask of a master that is left alone does not use up the one call
// that finds out whether it is back: else it stays alone as long as such calls come at
// the wrong time.
func TestQuorum_finds_out_that_a_master_is_back_whatever_comes_between(t *testing.T) {
	t.Parallel()
	release := func(p *parliament, c *quorumClaim) error { return c.release(p.bounded(), nil) }
	renew := func(p *parliament, c *quorumClaim) error { return c.extend(p.bounded(), DefaultTTL) }
	for name, test := range map[string]struct {
		between func(p *parliament, c *quorumClaim) error
		over    bool // the lease: then nothing is obtained for it
		back    bool // that asks it
	}{
		"nothing":                      {between: func(*parliament, *quorumClaim) error { return nil }},
		"a release":                    {between: release},
		"a renewal of a lease":         {between: renew, back: true},
		"one beside that one releases": {between: renew, over: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, 3)
			p.down(2)
			c := p.take()
			p.tasks.Wait()
			alone := &p.nodes[2].rest
			if alone.until.Load() == 0 {
				t.Fatal("a master that does not answer is not left alone")
			}
			p.doors[2].locked.Store(false)
			c.over = test.over
			alone.until.Store(int64(time.Since(alone.began))) // the next call is let through
			if err := test.between(p, c); err != nil {
				t.Fatal(err)
			}
			p.tasks.Wait()
			if back := alone.until.Load() == 0; back != test.back {
				t.Errorf("it was asked: %v; want %v", back, test.back)
			}
			space, err := keys.NewSpace("test", "")
			if err != nil {
				t.Fatal(err)
			}
			other := p.claim(keysOf(space, "other"), newToken()).(*quorumClaim)
			if err := other.obtain(p.bounded(), DefaultTTL); err != nil {
				t.Fatal(err)
			}
			p.tasks.Wait()
			if alone.until.Load() != 0 {
				t.Error("it is still left alone")
			}
		})
	}
}

// A lease that is given back while it waits to ask a master for its part in it.
func TestRegain_that_comes_too_late_lets_another_find_out(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.down(2)
	c := p.take()
	p.tasks.Wait()
	n := p.nodes[2]
	p.doors[2].locked.Store(false)
	n.rest.until.Store(int64(time.Since(n.rest.began)))
	ahead := n.lanes.enter(p.keys.lock)
	c.regain(p.bounded(), DefaultTTL)
	if !n.rest.now() {
		t.Fatal("it does not ask")
	}
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	ahead.leave()
	p.tasks.Wait()
	if n.rest.now() {
		t.Error("nobody else may ask")
	}
}

func TestRest(t *testing.T) {
	t.Parallel()
	r := rest{began: time.Now()}
	if r.now() {
		t.Error("a master that was not asked is left alone")
	}
	r.unasked(r.seen())
	r.note(errOutage)
	if !r.now() {
		t.Error("a master that did not answer is asked")
	}
	due := func() { r.until.Store(int64(time.Since(r.began))) }
	due()
	if r.now() || !r.now() {
		t.Error("not just one finds out whether it is back")
	}
	r.unasked(r.seen())
	if r.now() || !r.now() {
		t.Error("not just one finds it out in place of who had nothing to ask")
	}
	seen := r.seen()
	r.note(errOutage)
	if r.unasked(seen); !r.now() {
		t.Error("what another found out meanwhile is forgotten")
	}
	r.note(errHeld)
	if r.now() {
		t.Error("a master that answered is left alone")
	}
}
