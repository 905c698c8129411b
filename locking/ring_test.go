package locking

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A waiter is woken when a majority is free, and only then.
func TestRelease_wakes_a_waiter_when_a_majority_is_free(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after func(p *parliament, home int, others []int) // the grant, and the release
		nobody        bool                                        // waits
		again         bool                                        // the first release is in vain
		want          bool
	}{
		"all release":                {want: true},
		"nobody waits":               {nobody: true},
		"one of the others is away":  {after: func(p *parliament, _ int, others []int) { p.down(others[0]) }, want: true},
		"the home is away":           {after: func(p *parliament, home int, _ []int) { p.down(home) }},
		"the home had no part in it": {before: func(p *parliament, home int, _ []int) { p.down(home) }, after: func(p *parliament, home int, _ []int) { p.back(home) }, want: true},
		"only the home releases":     {after: func(p *parliament, _ int, others []int) { p.down(others...) }, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, 3)
			home := p.home(p.keys)
			others := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == home })
			if test.before != nil {
				test.before(p, home, others)
			}
			c := p.take()
			p.tasks.Wait()
			if test.after != nil {
				test.after(p, home, others)
			}
			if !test.nobody {
				if err := p.servers[home].Set(p.keys.mark, "1"); err != nil {
					t.Fatal(err)
				}
			}
			err := c.release(p.bounded(), nil)
			p.tasks.Wait()
			if (err != nil) != test.again {
				t.Fatalf("released: %v", err)
			}
			if rung := p.servers[home].Exists(p.keys.queue); rung != test.want {
				t.Errorf("a waiter is woken: %v; want %v", rung, test.want)
			}
			if !test.again {
				return
			}
			p.back(others...)
			p.give(c)
			p.tasks.Wait()
			if !p.servers[home].Exists(p.keys.queue) {
				t.Error("nobody is woken when the others have released too")
			}
		})
	}
}

// A home that had no part in the lease may be the last to be looked at, when the others
// have released already.
func TestRelease_wakes_a_waiter_when_the_home_comes_last(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	home := p.home(p.keys)
	p.down(home)
	c := p.take()
	p.tasks.Wait()
	p.back(home)
	if err := p.servers[home].Set(p.keys.mark, "1"); err != nil {
		t.Fatal(err)
	}
	place := p.nodes[home].lanes.enter(p.keys.lock) // something is on its way
	p.give(c)
	place.leave()
	p.tasks.Wait()
	if !p.servers[home].Exists(p.keys.queue) {
		t.Error("nobody is woken")
	}
}

func TestCrew_stays_for_a_while(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hired sync.WaitGroup
		made := 0
		closing := make(chan struct{})
		c := newCrew(func(f func()) { made++; hired.Go(f) }, closing)
		run := func(n int) {
			t.Helper()
			var done sync.WaitGroup
			gate := make(chan struct{})
			for range n {
				done.Add(1)
				c.run(func() { <-gate; done.Done() })
			}
			close(gate) // all at the same time
			done.Wait()
			synctest.Wait()
		}
		run(3)
		if made != 3 {
			t.Errorf("three jobs at once took %d", made)
		}
		for range 5 {
			<-time.After(crewRest / 2)
			run(3)
		}
		if made != 3 {
			t.Errorf("they did not stay: there were %d", made)
		}
		<-time.After(2 * crewRest)
		hired.Wait() // all have left
		run(2)
		if made != 5 {
			t.Errorf("after a pause there were %d in all", made)
		}
		close(closing)
		hired.Wait()
	})
}
