//go:build integration

package locking_test

import (
	"slices"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

// What the histories of the contests are judged by rejects what is none of a lock.
func TestExclusive_rejects_what_is_no_history_of_a_lock(t *testing.T) {
	t.Parallel()
	acquire := func(lease string, fence uint64, from, to int64) locking.Deed {
		return locking.Deed{Kind: "acquire", Lease: lease, Fence: fence, Call: from, Return: to}
	}
	held := func(lease string, at int64) locking.Deed {
		return locking.Deed{Kind: "held", Lease: lease, Call: at, Return: at}
	}
	end := func(lease string, sure, at int64) locking.Deed {
		return locking.Deed{Kind: "end", Lease: lease, Call: sure, Return: at}
	}
	write := func(lease string, fence uint64, held, accepted bool) locking.Deed {
		return locking.Deed{Kind: "write", Lease: lease, Fence: fence, Held: held, Accepted: accepted}
	}
	for name, test := range map[string]struct {
		deeds []locking.Deed
		good  bool
	}{
		"one after the other":              {[]locking.Deed{acquire("a", 1, 0, 10), held("a", 20), end("a", 20, 30), acquire("b", 2, 5, 40), end("b", 41, 50)}, true},
		"one was killed":                   {[]locking.Deed{acquire("a", 1, 0, 10), held("a", 20), acquire("b", 2, 15, 40), end("b", 41, 50)}, true},
		"one was killed at once":           {[]locking.Deed{acquire("a", 1, 0, 10), acquire("b", 2, 5, 40)}, true},
		"a write that came too late":       {[]locking.Deed{acquire("a", 1, 0, 10), write("a", 1, false, false), end("a", 11, 30)}, true},
		"two at the same time":             {[]locking.Deed{acquire("a", 1, 0, 10), held("a", 50), end("a", 50, 60), acquire("b", 2, 20, 30), end("b", 55, 70)}, false},
		"two, and one was killed":          {[]locking.Deed{acquire("a", 1, 0, 10), held("a", 50), acquire("b", 2, 20, 30)}, false},
		"one within the other":             {[]locking.Deed{acquire("a", 1, 0, 10), end("a", 90, 100), acquire("b", 2, 20, 30), end("b", 40, 50)}, false},
		"a fence falls":                    {[]locking.Deed{acquire("a", 5, 0, 10), end("a", 11, 12), acquire("b", 4, 20, 30), end("b", 31, 32)}, false},
		"a fence comes again":              {[]locking.Deed{acquire("a", 5, 0, 10), end("a", 11, 12), acquire("b", 5, 20, 30), end("b", 31, 32)}, false},
		"the store refuses one that holds": {[]locking.Deed{acquire("a", 1, 0, 10), write("a", 1, true, false), end("a", 11, 12)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := exclusive(test.deeds); (err == nil) != test.good {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// Lockers that are broken on purpose, in the contest that ours stand. Those that only a
// fault shows as broken (no quarantine, no look at the clock, a release of another's lock,
// fences of a minority) are in promises_integration_test.go, where it comes for sure.
func TestLock_that_is_broken_is_rejected(t *testing.T) {
	t.Parallel()
	for broken, hold := range map[string]time.Duration{
		locking.GrantsHeld:    20 * time.Millisecond,
		locking.RepeatsFences: 20 * time.Millisecond,
		locking.ForgetsToEnd:  4 * briefly,
	} {
		t.Run(broken, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, 1, locking.Contender{Seed: *seed, Quarantine: -1, Hold: hold, Broken: broken})
			for n := range contenders {
				c.start(n)
			}
			var wrong error
			tick := time.NewTicker(briefly / 4)
			defer tick.Stop()
			for giveUp := time.Now().Add(patience); wrong == nil && time.Now().Before(giveUp); <-tick.C {
				wrong = exclusive(c.done())
			}
			if wrong == nil {
				t.Errorf("nothing is found in %d leases", c.count("acquire"))
			}
			t.Logf("after %d leases: %v", c.count("acquire"), wrong)
			c.finish()
		})
	}
}

// done is what was done up to now.
func (c *contest) done() []locking.Deed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.deeds)
}
