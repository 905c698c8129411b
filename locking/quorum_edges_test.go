package locking

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// Who gets a minority gives it back at once, and not when the wait is over: else a few
// such could keep a majority from everyone.
func TestBallot_gives_back_what_a_minority_granted(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	another := newToken()
	for _, i := range []int{1, 2} {
		if _, err := p.nodes[i].obtain(p.bounded(), p.keys, want{token: another, ttl: DefaultTTL}); err != nil {
			t.Fatal(err)
		}
	}
	b := &ballot{claim: p.candidate(), open: 3, by: make(map[string]int)}
	for i := range p.nodes { // the one that grants it first
		b.count(i, b.poll(p.bounded(), i, want{token: b.claim.token, ttl: DefaultTTL}))
	}
	if len(b.votes) != 1 || b.held != 2 || p.count(b.claim) != 1 {
		t.Fatalf("it has %d votes and %d masters", len(b.votes), p.count(b.claim))
	}
	b.retreat(p.bounded())
	p.tasks.Wait()
	if n := p.count(b.claim); n != 0 {
		t.Errorf("%d masters still have it", n)
	}
}

// A round ends when the answers that are open change nothing.
func TestBallot_is_decided_by_a_majority_of_answers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		answers string // v: votes, h: held, f: failed, q: in quarantine
		want    bool
	}{
		"no answer":                         {3, "", false},
		"a majority of votes":               {3, "vv", true},
		"a majority is held":                {3, "hh", true},
		"one is away and one is held":       {3, "fh", false},
		"one is away and two are held":      {3, "fhh", true},
		"two are away":                      {3, "ff", true},
		"one is away and one votes":         {3, "fv", false},
		"a vote and one held":               {3, "vh", false},
		"one in quarantine and one held":    {3, "qh", true},
		"two of five are away, one held":    {5, "ffh", false},
		"two of five are away, two held":    {5, "ffhh", false},
		"two of five are away, three held":  {5, "ffhhh", true},
		"three of five are away":            {5, "fff", true},
		"three of five held":                {5, "hhh", true},
		"one of five is away, three held":   {5, "fhhh", true},
		"one of five is away, two held":     {5, "fhh", false},
		"the only one is held by another":   {1, "h", true},
		"the only one is away":              {1, "f", true},
		"three of five vote, though one is": {5, "hvvv", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &quorum{nodes: make([]*node, test.masters)}
			b := &ballot{claim: &quorumClaim{quorum: q, seats: make([]seat, test.masters)}, open: test.masters, by: make(map[string]int)}
			for i, answer := range test.answers {
				switch answer {
				case 'v':
					b.claim.seats[i].vote = &vote{}
					b.count(i, nil)
				case 'q':
					b.claim.seats[i].vote = &vote{quarantine: time.Second}
					b.count(i, nil)
				case 'h':
					b.count(i, &takenError{})
				case 'f':
					b.count(i, errOutage)
				}
			}
			if got := b.decided(); got != test.want {
				t.Errorf("decided: %t", got)
			}
		})
	}
}

func TestQuorum_tells_how_many_masters_are_away(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.down(0, 1)
	err := p.candidate().obtain(p.bounded(), DefaultTTL)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "2 of 3 masters failed") {
		t.Errorf("got %v", err)
	}
}

// Whose grant was the one before is known only where all votes say the same.
func TestNumber_knows_the_grant_before_if_all_agree(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		previous []string
		want     string
	}{
		"all say the same":    {[]string{"a", "a"}, "a"},
		"one is behind":       {[]string{"a", "b"}, ""},
		"one knows of none":   {[]string{"a", ""}, ""},
		"the first of none":   {[]string{"", "a"}, ""},
		"the last is another": {[]string{"a", "a", "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &quorumClaim{quorum: &quorum{nodes: make([]*node, 3)}}
			var votes []*vote
			for _, previous := range test.previous {
				votes = append(votes, &vote{fence: 7, previous: previous})
			}
			g, err := c.number(t.Context(), votes)
			if err != nil || g.previous != test.want || g.fence != 7 {
				t.Errorf("got %+v, %v", g, err)
			}
		})
	}
}

// A grant is as old as the youngest of the histories that it rests on.
func TestNumber_tells_since_when_no_grant_was_forgotten(t *testing.T) {
	t.Parallel()
	c := &quorumClaim{quorum: &quorum{nodes: make([]*node, 3)}}
	old, young := time.Now().Add(-time.Hour), time.Now()
	for _, steady := range [][]time.Time{{old, young}, {young, old}} {
		var votes []*vote
		for _, at := range steady {
			votes = append(votes, &vote{fence: 7, previous: "a", steady: at})
		}
		if g, err := c.number(t.Context(), votes); err != nil || !g.steady.Equal(young) {
			t.Errorf("got %v, %v; want %v", g.steady, err, young)
		}
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
