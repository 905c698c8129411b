package locking

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// A counter that was lost starts above the latest time that Redis may have: the fences
// before may have been given by a process that knows its clock better than we do.
func TestFence_of_a_new_counter_is_above_the_clock_at_most(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.give(p.take()) // the clocks are known
	p.tasks.Wait()
	at := systemClock()
	p.now = func() instant { return at }
	for _, server := range p.servers {
		server.FlushAll()
	}
	least, most := p.clock()
	if least >= most {
		t.Fatalf("the clock is known for sure: %d", most)
	}
	if fence := p.take().grant().fence; fence <= uint64(most) {
		t.Errorf("fence %d; want more than %d", fence, most)
	}
}

// Two masters of three have lost the lease, and the third says nothing: it is not waited
// for.
func TestExtend_does_not_wait_when_the_lease_is_lost(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	c := p.take()
	p.tasks.Wait()
	for _, server := range p.servers[:2] {
		server.Del(p.keys.lock)
	}
	open := p.doors[2].close()
	defer open()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.extend(ctx, DefaultTTL); !errors.Is(err, errGone) {
		t.Errorf("it says %v; want that the lease is gone", err)
	}
}

// A master that has no part in a lease is asked for it behind what is on its way there;
// by then the lease may be over.
func TestRegain_looks_again_before_it_asks(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.down(2)
	c := p.take()
	p.tasks.Wait()
	p.back(2)
	place := p.nodes[2].lanes.enter(p.keys.lock) // something is on its way
	c.regain(p.bounded(), DefaultTTL)
	c.mu.Lock()
	c.over = true // as a release does before it asks
	c.mu.Unlock()
	place.wait()
	place.leave()
	p.tasks.Wait()
	if holder := p.holders()[2]; holder != "" {
		t.Errorf("the master gave the lease to %q", holder)
	}
}

func TestBallot_tells_a_quarantine_from_a_split(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	for name, test := range map[string]struct {
		ballot ballot
		want   heldError
	}{
		"nobody has a majority":       {ballot{held: 2, by: map[string]int{"a": 1, "b": 1}}, heldError{split: true, several: true}},
		"another has":                 {ballot{held: 2, by: map[string]int{"a": 2}}, heldError{several: true}},
		"votes that do not count yet": {ballot{suspects: 2, quarantine: time.Second}, heldError{left: time.Second, several: true}},
	} {
		test.ballot.claim = p.candidate()
		var held *heldError
		if err := test.ballot.why(); !errors.As(err, &held) || *held != test.want {
			t.Errorf("%s: it says %+v; want %+v", name, held, test.want)
		}
	}
}

func TestQuorum_leaves_a_minority_alone_at_most(t *testing.T) {
	t.Parallel()
	for away, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 0, 5: 0} {
		p := convene(t, 5)
		for _, n := range p.nodes[:away] {
			n.rest.until.Store(int64(time.Since(n.rest.began) + time.Hour))
		}
		alone := 0
		for _, is := range p.resting() {
			if is {
				alone++
			}
		}
		if alone != want {
			t.Errorf("of %d that are away it leaves %d alone; want %d", away, alone, want)
		}
	}
}

// What a release could not reach is given back later.
func TestRelease_goes_on_with_masters_that_were_away(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	c := p.take()
	p.tasks.Wait()
	p.down(2)
	p.persist = func(_ time.Duration, do func(context.Context) error) {
		p.back(2)
		if err := do(p.bounded()); err != nil {
			t.Error(err)
		}
	}
	p.give(c)
	p.tasks.Wait()
	if holders := p.holders(); !slices.Equal(holders, []string{"", "", ""}) {
		t.Errorf("it is still held: %q", holders)
	}
	if c.pending() {
		t.Error("something is still to be given back")
	}
}
