//go:build integration

package locking_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/locking"
)

// holds tells whether a contender held a lease when it was last heard of.
func (c *contest) holds(number int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range slices.Backward(c.deeds) {
		if d.By == number {
			return d.Kind == "acquire" || d.Kind == "held"
		}
	}
	return false
}

// TestLock_of_a_process_that_stops has holders stand still for longer than a lease
// lives, and go on. What they then write is refused, and nobody else is disturbed.
// Lockers that are broken are found out.
func TestLock_of_a_process_that_stops(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		broken  string
	}{
		"one master":                       {masters: 1},
		"three masters":                    {masters: 3},
		"one that does not see time go by": {masters: 1, broken: locking.NeverExpires},
		"one that releases any lock":       {masters: 1, broken: locking.ReleasesAnyone},
		"three masters, does not see time": {masters: 3, broken: locking.NeverExpires},
		"three masters, releases any lock": {masters: 3, broken: locking.ReleasesAnyone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, test.masters, locking.Contender{Seed: 1, Quarantine: -1, Hold: 100 * time.Millisecond, Broken: test.broken})
			processes := make([]*contender, contenders)
			for n := range processes {
				processes[n] = c.start(n)
			}
			for round := range 6 {
				one := round % len(processes)
				until(t, "it holds a lease", func() bool { return c.holds(one) })
				if err := processes[one].Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				others := c.guard.writes()
				if test.broken != "" {
					<-time.After(2 * briefly)
				} else {
					until(t, "others write", func() bool { return c.guard.writes() > others+2 })
				}
				if err := processes[one].Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			c.finish()
			wrong := exclusive(c.deeds)
			if test.broken != "" {
				if wrong == nil {
					t.Error("it was taken for a lock")
				}
				return
			}
			c.judge(wrong)
			if c.guard.refused == 0 {
				t.Error("no write of a holder that had lost its lease was refused")
			}
		})
	}
}

// TestLock_of_a_process_that_is_killed has the next owner within a TTL and a second.
func TestLock_of_a_process_that_is_killed(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, masters, locking.Contender{Seed: 1, Quarantine: -1, Hold: 50 * time.Millisecond})
			processes := make([]*contender, contenders)
			for n := range processes {
				processes[n] = c.start(n)
			}
			for victim := range 2 {
				until(t, "it holds a lease", func() bool { return c.holds(victim) })
				if err := processes[victim].Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-processes[victim].ended
				killed, before := time.Now(), c.count("acquire")
				until(t, "another gets the lock", func() bool { return c.count("acquire") > before })
				if took := time.Since(killed); took > briefly+time.Second {
					t.Errorf("the next owner came after %v", took)
				}
			}
			c.finish()
			c.judge(exclusive(c.deeds))
		})
	}
}

// TestFences_rise_whatever_is_lost: then two may hold the lock, but the store takes
// no write of the one that had it first.
func TestFences_rise_whatever_is_lost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		lose    func(c *contest)
	}{
		"one is flushed":        {1, func(c *contest) { c.flush(0) }},
		"all are flushed":       {3, func(c *contest) { c.flush(0, 1, 2) }},
		"a majority is flushed": {3, func(c *contest) { c.flush(1, 2) }},
		"a majority starts again empty": {3, func(c *contest) {
			c.servers[0].MustRestart(c.t)
			c.servers[1].MustRestart(c.t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, test.masters, locking.Contender{Seed: 1, Quarantine: -1, Hold: 4 * time.Millisecond})
			for n := range contenders {
				c.start(n)
			}
			for range 8 {
				before := c.count("acquire")
				until(t, "leases are granted", func() bool { return c.count("acquire") >= before+leasesEach })
				test.lose(c)
			}
			c.finish()
			c.judge(fencesRise(c.deeds))
		})
	}
}

func (c *contest) flush(masters ...int) {
	for _, i := range masters {
		if err := c.servers[i].ControlClient(c.t).FlushAll(context.Background()).Err(); err != nil {
			c.t.Error(err)
		}
	}
}

// openOn is a manager on all masters of a contest.
func (c *contest) openOn(opts locking.Options, broken string) *locking.Manager {
	c.t.Helper()
	var clients []redis.UniversalClient
	for _, proxy := range c.proxies {
		client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
		c.t.Cleanup(func() { _ = client.Close() })
		clients = append(clients, client)
	}
	m, err := locking.BrokenQuorum(clients, quiet(opts), broken)
	if err != nil {
		c.t.Fatal(err)
	}
	closeLater(c.t, m)
	return m
}

// A has masters 1 and 2; 2 starts again empty; B must not get 2 and 3 while A holds
// its lease.
func TestQuarantine_keeps_a_minority_that_forgot_from_granting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		quarantine time.Duration
		want       error
	}{
		"with a quarantine":        {want: locking.ErrNotAcquired},
		"without one, two hold it": {quarantine: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, 3, locking.Contender{})
			c.up(2 * time.Second)
			opts := locking.Options{TTL: 2 * time.Second, RenewEvery: time.Second, Quarantine: test.quarantine}
			a, b := c.openOn(opts, ""), c.openOn(opts, "")
			release(t, acquire(t, b)) // connections are there, and processes known
			c.proxies[2].Refuse()
			c.proxies[2].Reset()
			holder := acquire(t, a, locking.WithWait(patience))
			if err := c.proxies[2].Heal(); err != nil {
				t.Fatal(err)
			}
			c.servers[1].MustRestart(t)
			until(t, "the third master is asked again", func() bool { return a.Asks(2) && b.Asks(2) })
			lease, err := b.Acquire(t.Context(), "r", locking.WithWait(0))
			held := holder.Err() == nil
			switch {
			case !held:
				t.Fatalf("the first lease ended too early to say anything: %v", holder.Err())
			case !errors.Is(err, test.want):
				t.Errorf("while another holds it, it gave %v", err)
			case err != nil && !strings.Contains(err.Error(), "started a moment ago"):
				t.Errorf("the reason is not told: %v", err)
			}
			if lease != nil {
				_ = lease.Release(t.Context())
			}
		})
	}
}

// One master alone counts far ahead. Whoever is granted next may not have it in its
// majority.
func TestFences_rise_from_one_majority_to_the_next(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{"a lock": "", "one that does not tell fences": locking.LeavesFences} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, 3, locking.Contender{})
			m := c.openOn(locking.Options{TTL: 2 * time.Second, Quarantine: -1, Wait: patience}, broken)
			lease := acquire(t, m)
			_, fence, _, _ := lease.Keys()
			ahead := lease.Fence() + 1_000_000_000
			release(t, lease)
			if err := c.servers[0].ControlClient(t).ZAdd(t.Context(), fence, redis.Z{Score: float64(ahead), Member: "m"}).Err(); err != nil {
				t.Fatal(err)
			}
			var last uint64
			rises := true
			for _, missing := range []int{2, 0} {
				c.proxies[missing].Refuse()
				c.proxies[missing].Reset()
				lease := acquire(t, m)
				rises = rises && lease.Fence() > last
				last = lease.Fence()
				release(t, lease)
				if err := c.proxies[missing].Heal(); err != nil {
					t.Fatal(err)
				}
				until(t, "the master is asked again", func() bool { return m.Asks(missing) })
			}
			if rises != (broken == "") {
				t.Errorf("that fences rise is %v", rises)
			}
		})
	}
}
