//go:build integration

package locking

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

const testPatience = 30 * time.Second

// belfry is a real server with as many processes' bells as a test wants.
type belfry struct {
	t       *testing.T
	server  *redistest.Server
	control *redis.Client
	keys    lockKeys
}

func newBelfry(t *testing.T, opts ...redistest.Option) *belfry {
	t.Helper()
	server := redistest.Start(t, opts...)
	space, err := keys.NewSpace("test", "")
	if err != nil {
		t.Fatal(err)
	}
	return &belfry{t: t, server: server, control: server.ControlClient(t), keys: keysOf(space, "r")}
}

// bells are one process' waiter, and a function that rings.
func (b *belfry) bells(options *redis.Options) (*bells, func()) {
	b.t.Helper()
	client := redis.NewClient(options)
	n := newNode(client, systemClock, slog.New(slog.DiscardHandler))
	var tasks sync.WaitGroup
	waiter := newBells(client, false, n.ring, tasks.Go)
	b.t.Cleanup(func() {
		tasks.Wait()
		waiter.close()
		_ = client.Close()
	})
	return waiter, func() {
		if _, err := n.ring(context.Background(), b.keys); err != nil {
			b.t.Error(err)
		}
	}
}

// eventually waits for a condition of the server that has no event.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(testPatience)
	for !is() {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatalf("never: %s", what)
		}
	}
}

// blocked is the number of commands that Redis holds open.
func (b *belfry) blocked() int {
	b.t.Helper()
	info, err := b.control.Info(context.Background(), "clients").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "blocked_clients:"); ok {
			blocked, err := strconv.Atoi(count)
			if err != nil {
				b.t.Fatal(err)
			}
			return blocked
		}
	}
	b.t.Fatal("INFO does not say")
	return 0
}

func heard(t *testing.T, v vigil) {
	t.Helper()
	select {
	case <-v.rung():
	case <-time.After(testPatience):
		t.Fatal("not heard")
	}
}

func TestBells_wake_the_one_that_listened_longest(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	const processes = 5
	vigils := make([]vigil, processes)
	var ring func()
	for i := range processes {
		var waiter *bells
		waiter, ring = b.bells(b.server.Options())
		vigils[i] = waiter.listen(b.keys, testPatience, false)
		defer vigils[i].end()
		eventually(t, "it listens", func() bool { return b.blocked() == i+1 })
	}
	for i, v := range vigils {
		ring()
		heard(t, v)
		for _, other := range vigils[i+1:] {
			select {
			case <-other.rung():
				t.Fatal("woke two")
			default:
			}
		}
	}
}

func TestBells_keep_a_ring_for_one_who_is_about_to_listen(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, ring := b.bells(b.server.Options())
	ring()
	ring() // no more than one is kept
	v := waiter.listen(b.keys, testPatience, false)
	defer v.end()
	heard(t, v)
	v.again()
	eventually(t, "it listens again", func() bool { return b.blocked() == 1 })
	ring()
	heard(t, v)
}

func TestBells_end_a_wait_at_once_and_leave_no_one_blocked(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, _ := b.bells(b.server.Options())
	for range 10 {
		v := waiter.listen(b.keys, time.Hour, false)
		v.end()
		v.end()
	}
	v := waiter.listen(b.keys, time.Hour, false)
	eventually(t, "it listens", func() bool { return b.blocked() == 1 })
	v.end()
	eventually(t, "nobody listens", func() bool { return b.blocked() == 0 && waiter.taken() == 0 })
}

func TestBells_pass_on_a_ring_that_came_too_late(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	leaver, ring := b.bells(b.server.Options())
	stayer, _ := b.bells(b.server.Options())
	for round := range 100 {
		b.keys.queue = fmt.Sprintf("queue:%d", round) // its own: a ring may be passed on needlessly
		leaving := leaver.listen(b.keys, testPatience, false)
		eventually(t, "the leaver listens", func() bool { return b.blocked() == 1 })
		staying := stayer.listen(b.keys, testPatience, false)
		eventually(t, "both listen", func() bool { return b.blocked() == 2 })
		var wg sync.WaitGroup
		wg.Go(ring)
		wg.Go(leaving.end)
		wg.Wait()
		heard(t, staying)
		staying.end()
		eventually(t, "nobody listens", func() bool { return b.blocked() == 0 && leaver.taken()+stayer.taken() == 0 })
	}
}

func TestBells_poll_where_redis_lets_nobody_listen(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]string{
		"no CLIENT ID":      {"-client"},
		"no CLIENT UNBLOCK": {"-client|unblock"},
		"no BZPOPMIN":       {"-bzpopmin"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBelfry(t, redistest.WithUser("locker", append([]string{"on", ">pw", "~*", "+@all"}, rules...)...))
			options := b.server.Options()
			options.Username, options.Password = "locker", "pw"
			waiter, _ := b.bells(options)
			v := waiter.listen(b.keys, time.Hour, false)
			if name != "no CLIENT UNBLOCK" {
				heard(t, v) // to look at once
			} else {
				eventually(t, "it listens", func() bool { return b.blocked() == 1 })
			}
			v.end()
			eventually(t, "later waits poll", waiter.rests)
			eventually(t, "nobody is left", func() bool { return b.blocked() == 0 && waiter.taken() == 0 })
			polling := waiter.listen(b.keys, time.Minute, false)
			defer polling.end()
			if pause := polling.patience(0); pause > pollLast {
				t.Fatalf("looks every %s only", pause)
			}
		})
	}
}

func TestBells_look_by_themselves_when_the_connection_breaks(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, _ := b.bells(b.server.Options())
	v := waiter.listen(b.keys, time.Hour, false)
	defer v.end()
	eventually(t, "it listens", func() bool { return b.blocked() == 1 })
	b.server.Kill()
	heard(t, v)
	if pause := v.patience(0); pause > pollLast {
		t.Fatalf("looks every %s only", pause)
	}
}

// A wait whose connection broke once, or that found no line free, listens again: who only
// looks loses each time to who listens.
func TestBells_listen_again(t *testing.T) {
	t.Parallel()
	for name, deafen := range map[string]func(b *belfry, waiter *bells) vigil{
		"after a connection broke": func(b *belfry, waiter *bells) vigil {
			v := waiter.listen(b.keys, time.Hour, false)
			eventually(b.t, "it listens", func() bool { return b.blocked() == 1 })
			killed, err := b.control.ClientKillByFilter(b.t.Context(), "TYPE", "normal", "SKIPME", "yes").Result()
			if killed == 0 || err != nil {
				b.t.Fatalf("%d connections are killed, %v", killed, err)
			}
			heard(b.t, v)
			return v
		},
		"after no line was free": func(b *belfry, waiter *bells) vigil {
			taken := fill(waiter)
			v := waiter.listen(b.keys, time.Hour, false)
			for _, l := range taken {
				waiter.leave(l)
			}
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBelfry(t)
			waiter, ring := b.bells(b.server.Options())
			v := deafen(b, waiter)
			defer v.end()
			if pause := v.patience(0); pause > pollLast {
				t.Errorf("meanwhile it looks every %s only", pause)
			}
			eventually(t, "it listens again", func() bool {
				v.again()
				return b.blocked() == 1
			})
			if pause := v.patience(0); pause < bellPatience {
				t.Errorf("it looks every %s although it listens", pause)
			}
			ring()
			heard(t, v)
		})
	}
}

// Of the answer to a wait nothing is heard any more, and the wait is for an hour.
func TestBells_give_up_a_connection_on_which_no_answer_comes(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	proxy := faultproxy.Start(t, b.server.Addr())
	options := b.server.Options()
	options.Addr = proxy.Addr()
	waiter, _ := b.bells(options)
	v := waiter.listen(b.keys, time.Hour, false)
	eventually(t, "it listens", func() bool { return b.blocked() == 1 })
	proxy.BlackHole(faultproxy.ToClient)
	v.end()
	eventually(t, "the wait is over", func() bool { return waiter.taken() == 0 })
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "for Redis too", func() bool { return b.blocked() == 0 })
	if waiter.rests() {
		t.Error("later waits poll, although they could listen")
	}
	v = waiter.listen(b.keys, time.Hour, false)
	eventually(t, "the next wait listens", func() bool { return b.blocked() == 1 })
	v.end()
}

// With several masters a releaser looks for the mark of a waiter.
func TestBells_leave_a_mark_and_look_whether_it_came_too_late(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	client := b.server.Client(t)
	n := newNode(client, systemClock, slog.New(slog.DiscardHandler))
	var tasks sync.WaitGroup
	waiter := newBells(client, true, n.ring, tasks.Go)
	t.Cleanup(func() {
		tasks.Wait()
		waiter.close()
	})
	v := waiter.listen(b.keys, time.Hour, false)
	defer v.end()
	heard(t, v) // the lock is free: it was released before the mark was there
	v.again()
	eventually(t, "it listens all the same", func() bool { return b.blocked() == 1 })
	v.end()

	v = waiter.listen(b.keys, time.Hour, true) // others go first
	eventually(t, "it listens", func() bool { return b.blocked() == 1 && waiter.taken() == 1 })
	v.end()
	eventually(t, "nobody listens", func() bool { return b.blocked() == 0 && waiter.taken() == 0 })

	if err := b.control.Set(t.Context(), b.keys.lock, "another's", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	long, short := waiter.listen(b.keys, time.Hour, false), waiter.listen(b.keys, time.Minute, false)
	eventually(t, "both listen", func() bool { return b.blocked() == 2 })
	if left := b.control.PTTL(t.Context(), b.keys.mark).Val(); left < 59*time.Minute {
		t.Errorf("the mark is there for %s; want the longer wait's", left)
	}
	long.end()
	short.end()
}

// A wait for which there is no line gets that of the one who has listened longest, which
// listens again in its turn.
func TestBells_take_turns_when_there_are_more_waits_than_lines(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, ring := b.bells(b.server.Options())
	var cold []vigil
	for i := range bellLines {
		other := b.keys
		other.queue = fmt.Sprintf("queue:%d", i)
		v := waiter.listen(other, time.Hour, false)
		defer v.end()
		cold = append(cold, v)
		eventually(t, "it listens", func() bool { return b.blocked() == i+1 })
	}
	hot := waiter.listen(b.keys, time.Hour, false)
	defer hot.end()
	hot.again()
	if pause := hot.patience(0); pause > pollLast {
		t.Errorf("without a line it looks every %s only", pause)
	}
	eventually(t, "who came last listens", func() bool {
		hot.again()
		return hot.patience(0) >= bellPatience && b.blocked() == bellLines
	})
	ring()
	heard(t, hot)
	for i, v := range cold {
		if listens := v.patience(0) >= bellPatience; listens == (i == 0) || len(v.rung()) > 0 {
			t.Errorf("%d listens: %t, rings: %d", i, listens, len(v.rung()))
		}
	}
	hot.end()
	eventually(t, "the first listens again", func() bool {
		cold[0].again()
		return b.blocked() == bellLines
	})
}

func (b *bells) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lines)
}

// fill takes all lines, as by waits that have begun just now.
func fill(waiter *bells) (taken []*line) {
	for {
		l, ok := waiter.enter()
		if !ok {
			return taken
		}
		taken = append(taken, l)
	}
}
