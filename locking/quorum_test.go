package locking

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestQuorum_grants_by_a_majority(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		down    []int
		want    error
	}{
		"one":                 {masters: 1},
		"one that is down":    {masters: 1, down: []int{0}, want: ErrUnavailable},
		"three":               {masters: 3},
		"three, one down":     {masters: 3, down: []int{1}},
		"three, two down":     {masters: 3, down: []int{0, 2}, want: ErrUnavailable},
		"five, two down":      {masters: 5, down: []int{0, 4}},
		"five, three down":    {masters: 5, down: []int{1, 2, 3}, want: ErrUnavailable},
		"three, none that is": {masters: 3, down: []int{0, 1, 2}, want: ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, test.masters)
			p.down(test.down...)
			c := p.candidate()
			err := c.obtain(p.bounded(), DefaultTTL)
			p.tasks.Wait()
			p.back(test.down...)
			if test.want != nil {
				if !errors.Is(err, test.want) || p.count(c) != 0 {
					t.Errorf("got %v, and %d masters have it", err, p.count(c))
				}
				return
			}
			if err != nil || p.count(c) != test.masters-len(test.down) {
				t.Fatalf("got %v, and %d masters have it", err, p.count(c))
			}
			other := p.candidate()
			if err := other.obtain(p.bounded(), DefaultTTL); !errors.Is(err, errHeld) {
				t.Errorf("another got %v", err)
			}
			p.tasks.Wait()
			if p.count(other) != 0 {
				t.Errorf("another has %d masters", p.count(other))
			}
			p.give(c)
			p.tasks.Wait()
			if p.count(c) != 0 {
				t.Errorf("after its release %d masters have it", p.count(c))
			}
			next := p.take()
			if next.grant().fence <= c.grant().fence {
				t.Errorf("the fence went from %d to %d", c.grant().fence, next.grant().fence)
			}
		})
	}
}

// The fence of a grant is known to a majority, also if one master alone made it so
// high.
func TestQuorum_fences_rise_with_any_majority(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	warm := p.take() // all clocks are known
	p.give(warm)
	p.tasks.Wait()
	ahead := float64(warm.grant().fence + 1e9)
	if _, err := p.servers[0].ZAdd(p.keys.fence, ahead, fenceMember); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i, missing := range []int{2, 0, 1, 0, 2} { // who is missing
		p.down(missing)
		c := p.take()
		if fence := c.grant().fence; fence <= last || float64(fence) <= ahead {
			t.Errorf("grant %d has fence %d after %d", i, fence, last)
		}
		last = c.grant().fence
		p.give(c)
		p.tasks.Wait()
		p.back(missing)
	}
}

func TestQuorum_gives_the_same_fence_on_all_masters_in_one_round_trip(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	for i, server := range p.servers { // their clocks differ
		server.SetTime(time.Date(2026, 11, 28, 0, i, 0, 0, time.UTC))
	}
	p.give(p.take())
	p.tasks.Wait()
	for _, n := range p.nodes {
		n.client.AddHook(noRaise{t})
	}
	c := p.take()
	p.tasks.Wait()
	fences := map[uint64]bool{}
	for i := range p.nodes {
		fences[c.get(i).vote.fence] = true
	}
	if len(fences) != 1 {
		t.Errorf("the fences are %v", fences)
	}
}

// noRaise fails the test if a fence has to be raised after a grant.
type noRaise struct{ t *testing.T }

func (noRaise) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (noRaise) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (n noRaise) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 2 && cmds[0].Name() == "zadd" && cmds[1].Name() == "expire" {
			n.t.Error("a fence was raised")
		}
		return next(ctx, cmds)
	}
}

func TestQuorum_lease_stands_by_a_majority_without_a_gap(t *testing.T) {
	t.Parallel()
	flush := func(masters ...int) func(p *parliament) {
		return func(p *parliament) {
			for _, i := range masters {
				p.servers[i].FlushAll()
			}
		}
	}
	for name, test := range map[string]struct {
		missing int                   // master that did not grant; -1: none
		before  []func(p *parliament) // each renewal
		want    []error
	}{
		"nothing happens":            {missing: -1, before: []func(p *parliament){flush()}, want: []error{nil}},
		"one forgets":                {missing: -1, before: []func(p *parliament){flush(1), flush(2), flush(0)}, want: []error{nil, nil, nil}},
		"two forget":                 {missing: -1, before: []func(p *parliament){flush(0, 1)}, want: []error{errGone}},
		"the second of two forgets":  {missing: 2, before: []func(p *parliament){flush(0)}, want: []error{errGone}},
		"one that came later counts": {missing: 2, before: []func(p *parliament){flush(), flush(0)}, want: []error{nil, nil}},
		"two are away": {missing: -1, before: []func(p *parliament){
			func(p *parliament) { p.down(0, 1) }, func(p *parliament) { p.back(0, 1) },
		}, want: []error{ErrUnavailable, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, 3)
			if test.missing >= 0 {
				p.down(test.missing)
			}
			c := p.take()
			p.tasks.Wait()
			if test.missing >= 0 {
				p.back(test.missing)
			}
			for i, happens := range test.before {
				happens(p)
				if err := c.extend(p.bounded(), DefaultTTL); !errors.Is(err, test.want[i]) {
					t.Fatalf("renewal %d gave %v; want %v", i, err, test.want[i])
				}
				p.tasks.Wait()
			}
			if n := p.count(c); test.want[len(test.want)-1] == nil && n != 3 {
				t.Errorf("%d masters have it; want all", n)
			}
			if err := c.release(p.bounded(), nil); err != nil && !errors.Is(err, errGone) {
				t.Errorf("its release gave %v", err)
			}
			p.tasks.Wait()
			if n := p.count(c); n != 0 {
				t.Errorf("%d masters have it after its release", n)
			}
		})
	}
}

// A master that answers late is not waited for, and what it then says still counts
// for what comes next.
func TestQuorum_does_not_wait_for_the_last(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.give(p.take())
	p.tasks.Wait()
	open := p.doors[1].close()
	defer open()
	c := p.take()
	if err := c.extend(p.bounded(), DefaultTTL); err != nil {
		t.Error(err)
	}
	p.give(c)
	next := p.take() // is not kept out by what is still on its way
	if n := p.count(next); n < 2 {
		t.Errorf("%d masters have it", n)
	}
	open()
	p.tasks.Wait()
	if p.count(c) != 0 || p.count(next) != 3 {
		t.Errorf("%d masters have the first, %d the next", p.count(c), p.count(next))
	}
	p.give(next)
	p.tasks.Wait()
	if p.count(next) != 0 {
		t.Error("it is still there")
	}
}

// A vote that comes when the others have said no is given back.
func TestQuorum_gives_back_a_vote_that_came_too_late(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.give(p.take())
	p.tasks.Wait()
	for _, i := range []int{0, 2} {
		if err := p.servers[i].Set(p.keys.lock, "another"); err != nil {
			t.Fatal(err)
		}
	}
	open := p.doors[1].close()
	defer open()
	c := p.candidate()
	if err := c.obtain(p.bounded(), DefaultTTL); !errors.Is(err, errHeld) {
		t.Fatalf("got %v", err)
	}
	open()
	p.tasks.Wait()
	if p.count(c) != 0 || c.pending() {
		t.Errorf("%d masters have it; pending: %v", p.count(c), c.pending())
	}
}

// A split vote says so, since then nobody may ever ring.
func TestQuorum_tells_a_split_vote(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		holders []int // who has which master; 0: nobody
		split   bool
	}{
		"one has a majority":  {holders: []int{1, 1, 0}},
		"one has all":         {holders: []int{1, 1, 1}},
		"two have one each":   {holders: []int{1, 2, 0}, split: true},
		"three have one each": {holders: []int{1, 2, 3}, split: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, 3)
			tokens := []string{"", newToken(), newToken(), newToken()}
			for i, holder := range test.holders {
				if holder != 0 {
					if _, err := p.nodes[i].obtain(p.bounded(), p.keys, want{token: tokens[holder], ttl: DefaultTTL}); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := p.candidate()
			err := c.obtain(p.bounded(), DefaultTTL)
			if held, ok := errors.AsType[*heldError](err); !ok || held.split != test.split {
				t.Errorf("got %+v", err)
			}
			p.tasks.Wait()
			if p.count(c) != 0 {
				t.Errorf("%d masters have it", p.count(c))
			}
		})
	}
}

func TestQuorum_remaining_is_when_a_majority_is_free(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		left []time.Duration
		down []int
		want time.Duration
		err  error
	}{
		"all free":                {left: []time.Duration{0, 0, 0}},
		"a minority held":         {left: []time.Duration{time.Minute, 0, 0}},
		"a majority held":         {left: []time.Duration{time.Minute, time.Second, 0}, want: time.Second},
		"all held":                {left: []time.Duration{3 * time.Second, time.Second, 2 * time.Second}, want: 2 * time.Second},
		"one away":                {left: []time.Duration{3 * time.Second, time.Second, 0}, down: []int{2}, want: 3 * time.Second},
		"one away, the rest free": {left: []time.Duration{0, 0, 0}, down: []int{1}},
		"two away":                {left: []time.Duration{0, 0, 0}, down: []int{1, 2}, err: ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, 3)
			for i, left := range test.left {
				if left > 0 {
					if err := p.servers[i].Set(p.keys.lock, "another"); err != nil {
						t.Fatal(err)
					}
					p.servers[i].SetTTL(p.keys.lock, left)
				}
			}
			p.down(test.down...)
			left, err := p.remaining(p.bounded(), p.keys, 0)
			// Who is not waited for is taken for free, so it may be less.
			if !errors.Is(err, test.err) || left > test.want || (left > 0) != (test.want > 0) {
				t.Errorf("got %v, %v", left, err)
			}
			p.tasks.Wait()
			p.back(test.down...)
		})
	}
}

func TestNewQuorum_refuses_what_has_no_majority(t *testing.T) {
	t.Parallel()
	one, two := redis.NewClient(&redis.Options{Addr: "nowhere:1"}), redis.NewClient(&redis.Options{Addr: "nowhere:1"})
	t.Cleanup(func() { _, _ = one.Close(), two.Close() })
	for name, clients := range map[string][]redis.UniversalClient{
		"none":         nil,
		"two":          {one, two},
		"one nil":      {nil},
		"one of three": {one, two, nil},
		"one twice":    {one, two, one},
	} {
		if _, err := NewQuorum(clients, Options{}); !errors.Is(err, ErrInvalidOptions) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
