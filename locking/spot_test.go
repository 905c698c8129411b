package locking

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Where nobody can be woken a release hears of others who look at the lock, and not of
// the look that its own process took before it had it.
func TestRelease_hears_of_others_who_look(t *testing.T) {
	t.Parallel()
	another := glance{by: newToken(), again: lookPolling}
	for name, test := range map[string]struct {
		masters int
		look    glance
		itself  bool
		forget  bool
		home    bool // answers
		owed    bool // others were heard of too late before
		want    time.Duration
	}{
		"another":                          {masters: 3, look: another, want: lookPolling},
		"another, of five":                 {masters: 5, look: another, want: lookPolling},
		"another, who listens":             {masters: 3, look: glance{by: newToken(), again: lookListening}, want: lookListening},
		"nobody":                           {masters: 3},
		"itself":                           {masters: 3, look: another, itself: true},
		"another, who was forgotten":       {masters: 3, look: another, forget: true},
		"another, who could be woken":      {masters: 3, look: another, home: true},
		"the same, who was woken too late": {masters: 3, look: another, home: true, owed: true, want: lookPolling},
		"another, of the only master's":    {masters: 1, look: another, home: true, owed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, test.masters)
			c := p.take()
			p.tasks.Wait()
			home := p.home(p.keys)
			if !test.home {
				p.down(home)
				p.nodes[home].rest.until.Store(int64(time.Since(p.nodes[home].rest.began) + time.Hour))
			}
			if test.itself {
				test.look.by = p.id
			}
			for i, n := range p.nodes {
				if i == home {
					continue
				}
				if _, err := n.remaining(p.bounded(), p.keys, test.look); err != nil {
					t.Fatal(err)
				}
			}
			if test.forget {
				p.forget(p.bounded(), p.keys)
				p.tasks.Wait()
			}
			if test.owed {
				c.contend(true)
			}
			var heard time.Duration
			if err := c.release(p.bounded(), func(back time.Duration) { heard += back }); err != nil {
				t.Fatal(err)
			}
			p.tasks.Wait()
			if heard != test.want {
				t.Errorf("it heard of one who looks again within %v; want %v", heard, test.want)
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
	if _, err := p.nodes[other].remaining(p.bounded(), p.keys, glance{newToken(), lookPolling}); err != nil {
		t.Fatal(err)
	}
	posts[last].set(refused)
	if err := c.release(p.bounded(), func(time.Duration) { t.Error("it was not released") }); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the first release gave %v", err)
	}
	p.tasks.Wait()
	posts[last].set(arrives)
	p.nodes[last].rest.until.Store(0)
	p.give(c)
}

// The mark of a look stays for a little longer than until the next one.
func TestGlance_is_there_until_the_next_one(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	other := (p.home(p.keys) + 1) % 3
	for _, again := range []time.Duration{lookPolling, lookListening} {
		if _, err := p.remaining(p.bounded(), p.keys, again); err != nil {
			t.Fatal(err)
		}
		p.tasks.Wait()
		if left := p.servers[other].TTL(p.keys.mark); left <= again || left > 2*again {
			t.Errorf("of who looks again within %v it stays for %v", again, left)
		}
		if p.servers[p.home(p.keys)].Exists(p.keys.mark) {
			t.Error("it is where waiters listen, too")
		}
	}
}

func TestParseGlance(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]glance{
		glance{"a", lookPolling}.text():     {"a", lookPolling},
		glance{"a:b", lookListening}.text(): {"a:b", lookListening},
		"1":                                 {}, // of who listens
		"":                                  {},
		"look:":                             {},
		"look:x:a":                          {},
		"look:0:a":                          {},
		"look:-5:a":                         {},
		"look:99999999:a":                   {},
	} {
		if g, ok := parseGlance(text); g != want || ok != (want.by != "") {
			t.Errorf("%q is %v, %v", text, g, ok)
		}
	}
}

// Who steps back does so until another has the lock, for no longer than that may take, and
// asks for it in any case.
func TestAcquire_steps_back_for_those_who_look(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait, back, taken time.Duration // taken: by another, for a second; 0: it is not
		atLeast, atMost   time.Duration
	}{
		"nobody comes":                    {wait: time.Minute, back: lookListening, atLeast: lookListening, atMost: lookListening + pollLast},
		"nobody comes, of whom polls":     {wait: time.Minute, back: lookPolling, atLeast: lookPolling, atMost: lookPolling + pollLast},
		"who has less time":               {wait: lookPolling, back: lookListening, atLeast: lookPolling / 3, atMost: lookPolling * 2 / 3},
		"who has none":                    {back: lookListening},
		"another takes it and gives back": {wait: time.Minute, back: lookListening, taken: pollLast, atLeast: time.Second, atMost: lookListening - pollLast/10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m, other := fakeManager(t, fake, Options{}), fakeManager(t, fake, Options{})
				m.turns.yield("r", test.back)
				began := time.Now()
				if test.taken > 0 {
					go func() {
						pass(test.taken)
						lease, err := other.Acquire(t.Context(), "r")
						if err != nil {
							t.Error(err)
							return
						}
						pass(time.Second - test.taken)
						_ = lease.Release(t.Context())
					}()
				}
				lease, err := m.Acquire(t.Context(), "r", WithWait(test.wait))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < test.atLeast || took > test.atMost {
					t.Errorf("it took %v; want %v to %v", took, test.atLeast, test.atMost)
				}
				_ = lease.Release(t.Context())
			})
		})
	}
}

// mute has nobody ring.
type mute struct{}

func (mute) listen(lockKeys, time.Duration, bool) vigil { return new(muteVigil) }
func (mute) close()                                     {}

type muteVigil struct{ poller }

func (*muteVigil) patience(time.Duration) time.Duration { return time.Hour }

// Who was to go first is gone, and the time is short.
func TestAcquire_that_lets_others_go_first_asks_in_any_case(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		m.waiter = mute{}
		m.turns.yield("r", 0)
		lease, err := m.Acquire(t.Context(), "r", WithWait(pollLast))
		if err != nil {
			t.Fatalf("a lock that nobody has is refused: %v", err)
		}
		_ = lease.Release(t.Context())
	})
}

func TestAcquire_that_steps_back_ends_with_its_context(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		m.turns.yield("r", lookListening)
		ctx, cancel := context.WithTimeout(t.Context(), pollLast)
		defer cancel()
		began := time.Now()
		if _, err := m.Acquire(ctx, "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != pollLast {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTurns_owe_a_turn_to_who_was_heard_of_too_late(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	yields := func() bool {
		yield, _ := turns.mustYield("r")
		return yield
	}
	if turns.owes("r") || yields() {
		t.Error("it owes a turn to nobody")
	}
	turns.yield("r", 0)
	if turns.owes("other") || !turns.owes("r") || turns.owes("r") || yields() {
		t.Error("it does not owe it once")
	}
	turns.yield("r", 0)
	if !yields() || yields() || turns.owes("r") {
		t.Error("who asks again at once does not yield once")
	}
	turns.yield("r", 0)
	turns.debts["r"] = debt{since: time.Now().Add(-2 * yieldFor)}
	if yields() || turns.owes("r") {
		t.Error("who asks again after a while still owes it")
	}
	turns.debts["old"] = debt{since: time.Now().Add(-2 * time.Minute)}
	turns.debts["r"] = debt{since: time.Now().Add(-30 * time.Second)}
	turns.swept = time.Now().Add(-2 * owedSwept)
	turns.yield("other", 0)
	if turns.owes("old") || !turns.owes("r") {
		t.Error("not what is old is forgotten")
	}
}
