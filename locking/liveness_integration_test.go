//go:build integration

package locking_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// lasting is longer than all troubles of a contest take together, with what comes behind
// them (a quarantine, a lock whose release was lost) and the turns of the others. Who
// asks for that long, of masters a majority of which is there, is granted the lock.
const lasting = disorders*(2*briefly+briefly/4) + 4*briefly

// always is before anything was done.
const always = int64(0)

// proxies are who is late where that is no contender.
const proxies = -1

// refusals are those of who asked at a time or later.
func refusals(deeds []locking.Deed, since int64) (all []locking.Deed) {
	for _, d := range deeds {
		if d.Kind == "refused" && d.Call >= since {
			all = append(all, d)
		}
	}
	return all
}

func tally(refusals []locking.Deed) map[string]int {
	n := make(map[string]int)
	for _, d := range refusals {
		n[d.Reason]++
	}
	return n
}

// granted makes the judge of histories in which nobody who asks at a time or later may
// be refused the lock without an excuse, and each contender has a turn.
func granted(contenders, majority int, since int64) func([]locking.Deed) error {
	return func(deeds []locking.Deed) error {
		turns := turnsIn(deeds)
		if len(turns) < contenders {
			return fmt.Errorf("of %d contenders only these had a turn, so often: %v", contenders, turns)
		}
		var wrong []locking.Deed
		for _, d := range refusals(deeds, since) {
			if !excused(deeds, d, majority) {
				wrong = append(wrong, d)
			}
		}
		if len(wrong) == 0 {
			return nil
		}
		d := wrong[0]
		return fmt.Errorf("who could have had the lock was refused it: %v; the first was %d, after %s: %s",
			tally(wrong), d.By, time.Duration(d.Return-d.Call), d.Error)
	}
}

// excused tells whether a refusal says nothing of who refused. That masters are away may
// be true: a majority was in trouble at the same time, or the answers came too late for a
// process that was not run for a while, as the machine had something else to do. That
// another held the lock is true of a whole wait only if the process was hardly run.
func excused(deeds []locking.Deed, refused locking.Deed, majority int) bool {
	idle := late(deeds, refused)
	if refused.Reason == locking.MastersAway {
		return idle >= int64(briefly/4) || troubled(deeds, refused) >= majority
	}
	return idle >= (refused.Return-refused.Call)/2
}

// troubled is how many masters were in trouble at the same time during a deed.
func troubled(deeds []locking.Deed, during locking.Deed) (most int) {
	at := []int64{during.Call}
	for _, d := range deeds {
		if d.Kind == "trouble" && d.Call > during.Call && d.Call < during.Return {
			at = append(at, d.Call)
		}
	}
	for _, t := range at {
		masters := make(map[int]bool)
		for _, d := range deeds {
			if d.Kind == "trouble" && d.Call <= t && t <= d.Return {
				masters[d.By] = true
			}
		}
		most = max(most, len(masters))
	}
	return most
}

// turnsIn is how often each contender was granted the lock.
func turnsIn(deeds []locking.Deed) map[int]int {
	turns := make(map[int]int)
	for _, d := range deeds {
		if d.Kind == "acquire" {
			turns[d.By]++
		}
	}
	return turns
}

// late is for how long the process of a deed, or the proxies, were not run during it.
func late(deeds []locking.Deed, of locking.Deed) (sum int64) {
	for _, d := range deeds {
		if d.Kind == "late" && (d.By == of.By || d.By == proxies) {
			sum += max(min(d.Return, of.Return)-max(d.Call, of.Call), 0)
		}
	}
	return sum
}

// recover waits until all contenders were granted the lock again, and tells since when.
func (c *contest) recover() (since int64) {
	c.t.Helper()
	before := len(c.done())
	until(c.t, "everybody is granted the lock again", func() bool {
		return len(turnsIn(c.done()[before:])) == len(c.running)
	})
	return locking.SharedClock()
}

// TestLock_is_granted_again has a majority of the masters in trouble at the same time.
// While that lasts nobody has to be granted anything, and nobody is refused after it.
func TestLock_is_granted_again(t *testing.T) {
	t.Parallel()
	for name, fault := range troubles {
		t.Run("after a majority was "+name, func(t *testing.T) {
			t.Parallel()
			c := newContest(t, 3, locking.Contender{Seed: *seed, Quarantine: briefly, Hold: 20 * time.Millisecond})
			c.up(briefly)
			for n := range contenders {
				c.start(n)
			}
			until(t, "a lease is granted", func() bool { return c.count("acquire") > 0 })
			var disorder sync.WaitGroup
			for master := range 2 {
				disorder.Go(func() { c.have(fault, rand.New(rand.NewPCG(*seed, uint64(master))), master) })
			}
			disorder.Wait()
			calm := c.recover()
			enough := c.count("acquire") + contenders*leasesEach/2
			until(t, "it was held often enough", func() bool { return c.count("acquire") >= enough })
			c.finish()
			c.judge(exclusive, granted(contenders, 2, calm))
		})
	}
}

// Who got a minority of the masters only, and waits for more, keeps nobody out who can have
// a majority.
func TestLock_is_granted_beside_one_who_cannot_have_it(t *testing.T) {
	t.Parallel()
	masters := servers(t, 3)
	opts := unhurried // what is not given back stays
	opts.Quarantine = -1
	one := acquire(t, openAll(t, masters, opts, ""))
	lock, _, _, _ := one.Keys()
	release(t, one)
	others := []*redis.Client{masters[1].ControlClient(t), masters[2].ControlClient(t)}
	for _, master := range others { // what a dead process left
		if err := master.Set(t.Context(), lock, "0123456789012345678901", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	waits := func(m *locking.Manager) (granted <-chan error) {
		waiting, got := make(chan struct{}), make(chan error, 1)
		began := sync.OnceFunc(func() { close(waiting) })
		go func() {
			lease, err := m.Acquire(t.Context(), "r", locking.WithWait(patience/2), locking.WithWaitCallback(func(locking.Waiting) { began() }))
			if err == nil {
				err = lease.Release(t.Context())
			}
			got <- err
		}()
		select {
		case <-waiting:
		case err := <-got:
			t.Fatalf("it does not wait: %v", err)
		}
		return got
	}
	proxy := faultproxy.Start(t, masters[1].Addr())
	proxy.Refuse()
	clients := dialAll(t, masters)
	clients[1] = redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = clients[1].Close() })
	less := waits(openOn(t, clients, opts, ""))             // gets the first master, again and again
	more := waits(openOn(t, dialAll(t, masters), opts, "")) // could have that and the second
	if err := others[0].Del(t.Context(), lock).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-more; err != nil {
		t.Errorf("who could have had the lock was refused it: %v", err)
	}
	if err := others[1].Del(t.Context(), lock).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-less; err != nil {
		t.Errorf("who could have had the lock was refused it: %v", err)
	}
}

// What the histories are judged by rejects those in which somebody waits in vain.
func TestGranted_rejects_who_is_refused_for_nothing(t *testing.T) {
	t.Parallel()
	second := int64(time.Second)
	turn := func(by int) locking.Deed { return locking.Deed{By: by, Kind: "acquire"} }
	refused := func(by int, from, to int64) locking.Deed {
		return locking.Deed{By: by, Kind: "refused", Call: from, Return: to, Reason: locking.MastersAway}
	}
	late := func(by int, from, to int64) locking.Deed {
		return locking.Deed{By: by, Kind: "late", Call: from, Return: to}
	}
	vain := func(by int, from, to int64) locking.Deed {
		return locking.Deed{By: by, Kind: "refused", Call: from, Return: to, Reason: locking.HeldByAnother}
	}
	trouble := func(master int, from, to int64) locking.Deed {
		return locking.Deed{By: master, Kind: "trouble", Call: from, Return: to}
	}
	for name, test := range map[string]struct {
		deeds []locking.Deed
		since int64
		good  bool
	}{
		"all are granted":               {deeds: []locking.Deed{turn(0), turn(1), turn(0)}, good: true},
		"one is refused":                {deeds: []locking.Deed{turn(0), turn(1), refused(1, 5, 10)}},
		"one was refused before":        {deeds: []locking.Deed{turn(0), turn(1), refused(1, 5, 10)}, since: 6, good: true},
		"one never has a turn":          {deeds: []locking.Deed{turn(0), turn(0)}},
		"one was not run":               {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, second), late(1, -second, second/2)}, good: true},
		"the proxies were not run":      {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, second), late(proxies, 0, second/2)}, good: true},
		"another was not run":           {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, second), late(0, 0, second)}},
		"it was not run for a moment":   {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, second), late(1, 0, second/10)}},
		"a majority was in trouble":     {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, 10), trouble(0, -5, 9), trouble(2, 8, 20)}, good: true},
		"a minority was in trouble":     {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, 10), trouble(2, -5, 20)}},
		"one was after the other":       {deeds: []locking.Deed{turn(0), turn(1), refused(1, 0, 10), trouble(0, -5, 4), trouble(2, 5, 20)}},
		"one waits in vain":             {deeds: []locking.Deed{turn(0), turn(1), vain(1, 0, 10*second), late(1, 0, 4*second)}},
		"it was not run for most of it": {deeds: []locking.Deed{turn(0), turn(1), vain(1, 0, 10*second), late(1, 0, 6*second)}, good: true},
		"and a majority was in trouble": {deeds: []locking.Deed{turn(0), turn(1), vain(1, 0, 10), trouble(0, -5, 9), trouble(2, 8, 20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := granted(2, 2, test.since)(test.deeds); (err == nil) != test.good {
				t.Errorf("it says %v", err)
			}
		})
	}
}
