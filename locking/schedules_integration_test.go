//go:build integration

package locking_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// holds tells whether a contender held a lease when it was last heard of.
func (c *contest) holds(number int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range slices.Backward(c.deeds) {
		if d.By == number && d.Kind != "late" && d.Kind != "trouble" {
			return d.Kind == "acquire" || d.Kind == "held"
		}
	}
	return false
}

// TestLock_of_a_process_that_stops has holders stand still for longer than a lease
// lives, and go on. What they then write is refused, and nobody else is disturbed.
func TestLock_of_a_process_that_stops(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, masters, locking.Contender{Seed: *seed, Quarantine: -1, Hold: 100 * time.Millisecond, Wait: lasting})
			processes := make([]*contender, contenders)
			for n := range processes {
				processes[n] = c.start(n)
			}
			// Now and then one stands still between its last write and its release.
			for round := 0; round < 2 || c.guard.refusals() == 0; round++ {
				if round == 20 {
					t.Fatal("no write of a holder that had lost its lease was refused")
				}
				one := round % len(processes)
				until(t, "it holds a lease", func() bool { return c.holds(one) })
				if err := processes[one].Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				others := c.guard.writes()
				until(t, "others write", func() bool { return c.guard.writes() > others+2 })
				told := c.count("write") + c.count("end")
				if err := processes[one].Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				until(t, "it goes on", func() bool { return c.count("write")+c.count("end") > told })
			}
			c.recover()
			c.finish()
			c.judge(exclusive, granted(contenders, masters/2+1, always))
		})
	}
}

// TestLock_of_a_process_that_is_killed has the next owner within a TTL and a second.
func TestLock_of_a_process_that_is_killed(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, masters, locking.Contender{Seed: *seed, Quarantine: -1, Hold: 50 * time.Millisecond, Wait: lasting})
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
			c.judge(exclusive, granted(0, masters/2+1, always))
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
			c := newContest(t, test.masters, locking.Contender{Seed: *seed, Quarantine: -1, Hold: 4 * time.Millisecond})
			for n := range contenders {
				c.start(n)
			}
			for range 8 {
				before := c.count("acquire")
				until(t, "leases are granted", func() bool { return c.count("acquire") >= before+leasesEach })
				test.lose(c)
			}
			calm, before := c.recover(), c.count("acquire")
			until(t, "leases are granted", func() bool { return c.count("acquire") >= before+leasesEach })
			c.finish()
			c.judge(fencesRise, granted(contenders, test.masters/2+1, calm))
		})
	}
}

// TestFences_rise_when_replicas_take_over has processes contend while replicas take over
// that lack what was granted last: the lock is free there, and its counter low.
func TestFences_rise_when_replicas_take_over(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters    int
		over, away []int // masters whose replicas take over, and those that nobody reaches then
	}{
		"of the only master": {1, []int{0}, nil},
		"of one of three":    {3, []int{1}, []int{0}},
		"of two of three":    {3, []int{0, 2}, []int{1}}, // those that know the last fences are gone
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, test.masters, locking.Contender{Seed: *seed, Quarantine: -1, Hold: 4 * time.Millisecond})
			standbys := make(map[int]*standby)
			for _, master := range test.over {
				standbys[master] = follow(t, redistest.Start(t), c.servers[master])
			}
			for n := range contenders {
				c.start(n)
			}
			held := func() {
				before := c.count("acquire")
				until(t, "leases are granted", func() bool { return c.count("acquire") >= before+leasesEach })
			}
			for range 3 {
				held()
				for _, master := range test.over {
					standbys[master].cut()
				}
				for range 8 { // more than are asked for while nobody can grant, as that counts too
					held()
				}
				for _, master := range test.over { // all before one is gone, as grants end with that
					standbys[master].awaitLack(t)
				}
				for _, master := range test.away {
					c.proxies[master].BlackHole(faultproxy.Both)
				}
				for _, master := range test.over {
					standbys[master].primary.Kill()
				}
				for _, master := range test.over {
					s := standbys[master]
					s.takeOver(t)
					c.proxies[master].Redirect(s.replica.Addr())
					c.servers[master], c.controls[master] = s.replica, s.below
				}
				held() // by masters that lack grants
				for _, master := range test.away {
					if err := c.proxies[master].Heal(); err != nil {
						t.Fatal(err)
					}
				}
				for _, master := range test.over {
					s := standbys[master]
					s.primary.MustRestart(t)
					standbys[master] = follow(t, s.primary, s.replica)
				}
			}
			calm := c.recover()
			held()
			c.finish()
			c.judge(fencesRise, granted(contenders, test.masters/2+1, calm))
		})
	}
}

func (c *contest) flush(masters ...int) {
	for _, i := range masters {
		if err := c.controls[i].FlushAll(context.Background()).Err(); err != nil {
			c.t.Error(err)
		}
	}
}
