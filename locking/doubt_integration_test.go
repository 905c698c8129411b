//go:build integration

package locking

import (
	"context"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// doubtful is a wait that doubts at every look whether it hears anything.
func doubtful(b *belfry, waiter *bells) *bellVigil {
	b.t.Helper()
	waiter.doubt = 0
	before := b.blocked()
	v, _ := waiter.listen(b.keys, time.Hour, false).(*bellVigil)
	b.t.Cleanup(v.end)
	eventually(b.t, "it listens", func() bool { return b.blocked() == before+1 })
	v.again()
	eventually(b.t, "it listens twice", func() bool { return b.blocked() == before+2 })
	return v
}

// behind is the wait of another process that began after all others.
func behind(b *belfry) vigil {
	b.t.Helper()
	before := b.blocked()
	other, _ := b.bells(b.server.Options())
	next := other.listen(b.keys, time.Hour, false)
	b.t.Cleanup(next.end)
	eventually(b.t, "another listens", func() bool { return b.blocked() == before+1 })
	return next
}

func (v *bellVigil) listensTo() (line, spare *line, lost int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.line, v.spare, len(v.lost)
}

// A ring that went to a connection which leads nowhere is lost; the next one is heard.
func TestBells_are_heard_on_another_connection_than_one_that_is_half_open(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	proxy := faultproxy.Start(t, b.server.Addr())
	options := b.server.Options()
	options.Addr = proxy.Addr()
	waiter, _ := b.bells(options)
	_, ring := b.bells(b.server.Options())
	waiter.doubt = 0
	v, _ := waiter.listen(b.keys, time.Hour, false).(*bellVigil)
	defer v.end()
	eventually(t, "it listens", func() bool { return b.blocked() == 1 })
	proxy.BlackHolePresent(faultproxy.Both) // new connections work
	v.again()
	eventually(t, "it listens twice", func() bool { return b.blocked() == 2 })
	ring() // Redis hands it to the first
	eventually(t, "it is lost", func() bool { return b.blocked() == 1 })
	if len(v.rung()) > 0 {
		t.Fatal("the ring was heard, so the test shows nothing")
	}
	ring()
	heard(t, v)
	if line, spare, lost := v.listensTo(); line != nil || spare != nil || lost != 1 {
		t.Errorf("it listens to %v and %v, and gave up %d; want nothing, and one", line, spare, lost)
	}
	if n := waiter.taken(); n != 0 {
		t.Errorf("%d lines are taken", n)
	}
	v.again()
	eventually(t, "it listens anew", func() bool { return b.blocked() == 1 })
	ring()
	heard(t, v)
}

// Who listens twice keeps its place, has one turn, and leaves nothing to those behind it.
func TestBells_that_are_listened_to_twice_ring_once(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, ring := b.bells(b.server.Options())
	v := doubtful(b, waiter)
	next := behind(b)
	v.again()
	eventually(t, "it listens a third time, and no longer the second", func() bool {
		_, spare, _ := v.listensTo()
		return b.blocked() == 3 && spare != nil && waiter.taken() == 2
	})
	ring()
	heard(t, v)
	if len(next.rung()) > 0 {
		t.Error("who came later was woken too")
	}
	if line, spare, lost := v.listensTo(); line == nil || spare != nil || lost != 0 {
		t.Errorf("it listens to %v and %v, and gave up %d; want what listened second", line, spare, lost)
	}
	v.end()
	eventually(t, "it listens no longer", func() bool { return b.blocked() == 1 && waiter.taken() == 0 })
	ring()
	heard(t, next)
}

// A ring that comes to a wait that has one already is another's.
func TestBells_pass_on_what_is_heard_twice(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, ring := b.bells(b.server.Options())
	v := doubtful(b, waiter)
	next := behind(b)
	ring()
	eventually(t, "it is rung for", func() bool { return len(v.rung()) == 1 })
	ring()
	heard(t, next)
	heard(t, v)
}

// Redis lost the mark, and so who releases rings for nobody; the second line leaves it
// again.
func TestBells_leave_the_mark_again(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, _ := b.bells(b.server.Options())
	waiter.marks, waiter.doubt = true, 0
	if err := b.control.Set(t.Context(), b.keys.lock, "another's", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	v := waiter.listen(b.keys, time.Hour, false)
	defer v.end()
	eventually(t, "it listens", func() bool { return b.blocked() == 1 })
	b.control.Del(context.Background(), b.keys.mark, b.keys.lock)
	v.again()
	eventually(t, "it listens twice", func() bool { return b.blocked() == 2 })
	if b.control.Exists(t.Context(), b.keys.mark).Val() != 1 {
		t.Error("there is no mark")
	}
	if len(v.rung()) > 0 {
		t.Error("it was woken by nobody") // and would give up its line for that
	}
	v.end()
	eventually(t, "it listens no longer", func() bool { return b.blocked() == 0 && waiter.taken() == 0 })
}

// A wait that has no line goes before one that has two.
func TestBells_take_a_second_line_away_first(t *testing.T) {
	t.Parallel()
	b := newBelfry(t)
	waiter, _ := b.bells(b.server.Options())
	other := b.keys
	other.queue = "other"
	first := waiter.listen(other, time.Hour, false)
	defer first.end()
	eventually(t, "another listens", func() bool { return b.blocked() == 1 })
	v := doubtful(b, waiter)
	for range bellLines - 3 {
		if _, ok := waiter.enter(); !ok {
			t.Fatal("there is no line")
		}
	}
	if _, ok := waiter.spare(); ok {
		t.Error("there is a second line, and none for who has none")
	}
	eventually(t, "there is a line", func() bool { _, ok := waiter.enter(); return ok })
	if line, spare, _ := v.listensTo(); line == nil || spare != nil {
		t.Errorf("it listens to %v and %v; want the first only", line, spare)
	}
}

// A user who may not end a wait of its own keeps its line, and the others theirs.
func TestBells_keep_their_place_where_no_line_can_be_ended(t *testing.T) {
	t.Parallel()
	b := newBelfry(t, redistest.WithUser("locker", "on", ">pw", "~*", "+@all", "-client|unblock"))
	options := b.server.Options()
	options.Username, options.Password = "locker", "pw"
	waiter, ring := b.bells(options)
	v := doubtful(b, waiter)
	v.again()
	eventually(t, "it listens a third time", func() bool { return b.blocked() == 3 })
	eventually(t, "the second does not count", func() bool { return waiter.taken() == 2 })
	if waiter.rests() {
		t.Error("later waits poll")
	}
	ring()
	heard(t, v)
	if line, _, _ := v.listensTo(); line == nil {
		t.Error("it listens no longer")
	}
}
