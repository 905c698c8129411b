package locking

import (
	"errors"
	"testing"
	"time"
)

// Where nobody can be woken a release hears of others who look at the lock, and not of
// the look that its own process took before it had it.
func TestRelease_hears_of_others_who_look(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		by      string // who looked; empty: nobody
		hears   bool   // the home answers
		want    int
	}{
		"another":                       {masters: 3, by: "another", want: 1},
		"another, of five":              {masters: 5, by: "another", want: 1},
		"nobody":                        {masters: 3},
		"itself":                        {masters: 3, by: "itself"},
		"another, who could be woken":   {masters: 3, by: "another", hears: true},
		"another, of the only master's": {masters: 1, by: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, test.masters)
			c := p.take()
			p.tasks.Wait()
			home := p.home(p.keys)
			if !test.hears {
				p.down(home)
				p.nodes[home].rest.until.Store(int64(time.Since(p.nodes[home].rest.began) + time.Hour))
			}
			looker := newToken()
			if test.by == "itself" {
				looker = p.id
			}
			for i, n := range p.nodes {
				if test.by != "" && i != home {
					if _, err := n.remaining(p.bounded(), p.keys, looker); err != nil {
						t.Fatal(err)
					}
				}
			}
			if test.masters == 1 {
				p.back(home)
			}
			heard := 0
			if err := c.release(p.bounded(), func() { heard++ }); err != nil {
				t.Fatal(err)
			}
			p.tasks.Wait()
			if heard != test.want {
				t.Errorf("it heard %d times of a waiter; want %d", heard, test.want)
			}
		})
	}
}

// What a release in vain heard is nothing to one that nobody waits for.
func TestRelease_in_the_background_tells_nobody_of_others_who_look(t *testing.T) {
	t.Parallel()
	p, posts := posted(t, 3)
	c := p.take()
	p.tasks.Wait()
	home := p.home(p.keys)
	p.nodes[home].rest.until.Store(int64(time.Since(p.nodes[home].rest.began) + time.Hour))
	other, last := (home+1)%3, (home+2)%3
	if _, err := p.nodes[other].remaining(p.bounded(), p.keys, newToken()); err != nil {
		t.Fatal(err)
	}
	posts[last].set(refused)
	if err := c.release(p.bounded(), func() { t.Error("it was not released") }); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the first release gave %v", err)
	}
	p.tasks.Wait()
	posts[last].set(arrives)
	p.nodes[last].rest.until.Store(0)
	p.give(c)
}

func TestTurns_owe_a_turn_to_who_was_heard_of_too_late(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	if turns.owes("r") || turns.mustYield("r") {
		t.Error("it owes a turn to nobody")
	}
	turns.yield("r")
	if turns.owes("other") || !turns.owes("r") || turns.owes("r") || turns.mustYield("r") {
		t.Error("it does not owe it once")
	}
	turns.yield("r")
	if !turns.mustYield("r") || turns.mustYield("r") || turns.owes("r") {
		t.Error("who asks again at once does not yield once")
	}
	turns.yield("r")
	turns.debts["r"] = time.Now().Add(-2 * yieldFor)
	if turns.mustYield("r") || turns.owes("r") {
		t.Error("who asks again after a while still owes it")
	}
	turns.debts["old"] = time.Now().Add(-2 * owedFor)
	turns.debts["r"] = time.Now().Add(-owedFor / 2)
	turns.swept = time.Now().Add(-2 * owedSwept)
	turns.yield("other")
	if turns.owes("old") || !turns.owes("r") {
		t.Error("not what is old is forgotten")
	}
}
