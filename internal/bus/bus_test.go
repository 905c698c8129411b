package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

const patience = 30 * time.Second

func open(t *testing.T) (*Bus, *miniredis.Miniredis) {
	t.Helper()
	server := mini.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	b := New(client, Options{
		Probe: "probe", ProbeEvery: 300 * time.Millisecond, Timeout: 3 * time.Second,
		Op: "test: listen", Family: "test", Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(b.Close)
	return b, server
}

// ear is a listener for tests.
type ear struct {
	*Registration
	confirmed chan struct{}
	heard     chan string
}

func listen(b *Bus, channel string) *ear {
	e := &ear{confirmed: make(chan struct{}, 1000), heard: make(chan string, 10000)}
	e.Registration = b.Listen(channel, Listener{
		Confirmed: func() { e.confirmed <- struct{}{} },
		Message:   func(m string) { e.heard <- m },
	})
	return e
}

func wait(t *testing.T, e *ear) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	panic("not reached")
}

func TestBus_hands_messages_to_those_who_listen(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	one, two, other := listen(b, "a"), listen(b, "a"), listen(b, "b")
	for _, e := range []*ear{one, two, other} {
		wait(t, e)
	}
	if n := server.PubSubNumSub("a")["a"]; n != 1 {
		t.Errorf("%d connections listen; want 1", n)
	}
	server.Publish("b", "for b")
	server.Publish("a", "for a")
	for e, want := range map[*ear]string{one: "for a", two: "for a", other: "for b"} {
		if got := next(t, e.heard); got != want {
			t.Errorf("heard %q; want %q", got, want)
		}
	}
	two.Close()
	two.Close()
	server.Publish("a", "again")
	if got := next(t, one.heard); got != "again" {
		t.Errorf("heard %q", got)
	}
	if len(two.heard)+len(other.heard) > 0 {
		t.Error("somebody heard what was not for them")
	}
}

func TestBus_confirms_at_once_who_joins_a_subscribed_channel(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	wait(t, listen(b, "a"))
	second := listen(b, "a")
	next(t, second.confirmed)
	server.Publish("a", "hello")
	next(t, second.heard)
}

func TestBus_confirms_again_after_a_lost_connection(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	ears := []*ear{listen(b, "a"), listen(b, "b")}
	for _, e := range ears {
		next(t, e.confirmed)
	}
	server.Close()
	mini.Restart(t, server)
	for _, e := range ears {
		next(t, e.confirmed)
	}
	server.Publish("b", "hello")
	next(t, ears[1].heard)
}

func TestBus_keeps_a_quiet_connection(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	e := listen(b, "a")
	next(t, e.confirmed)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range 2 * silentAfter {
		for commands := server.CommandCount(); server.CommandCount() == commands; { // until the next probe
			<-look.C
		}
	}
	if len(e.confirmed) > 0 {
		t.Error("the connection was given up")
	}
}

func TestBus_tells_why_it_cannot_listen(t *testing.T) {
	t.Parallel()
	t.Run("an outage, when the caller's time is over", func(t *testing.T) {
		t.Parallel()
		b, server := open(t)
		server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := listen(b, "a").Wait(ctx)
		if !errors.Is(err, rediserr.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a refusal, at once", func(t *testing.T) {
		t.Parallel()
		b, server := open(t)
		server.RequireAuth("secret")
		if err := listen(b, "a").Wait(t.Context()); !errors.Is(err, rediserr.ErrDenied) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("its end", func(t *testing.T) {
		t.Parallel()
		b, server := open(t)
		server.Close()
		e := listen(b, "a")
		go b.Close()
		if err := e.Wait(t.Context()); !errors.Is(err, rediserr.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Channels come and go faster than the server confirms. Whoever is confirmed
// hears what is published from then on.
func TestBus_serves_listeners_that_come_and_go(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 50 {
				e := listen(b, fmt.Sprint("channel", worker%3))
				wait(t, e)
				if worker%2 == 0 {
					want := fmt.Sprint(worker, "-", i)
					for heard := false; !heard; {
						server.Publish(e.channel, want)
						select {
						case m := <-e.heard:
							heard = m == want
						case <-e.confirmed: // subscribed anew in between: what was published may be lost
						case <-time.After(patience):
							t.Errorf("worker %d did not hear its message %d", worker, i)
							return
						}
					}
				}
				e.Close()
			}
		})
	}
	all.Wait()
}

func TestBus_starts_and_stops_any_number_of_times(t *testing.T) {
	t.Parallel()
	for range 50 {
		b, _ := open(t)
		e := listen(b, "a")
		go func() { _ = e.Wait(t.Context()) }()
		b.Close()
		b.Close()
		e.Close()
	}
}

func TestBus_does_not_confirm_on_a_connection_that_is_gone(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	wait(t, listen(b, "a"))
	b.mu.Lock()
	failed := b.failed
	b.mu.Unlock()
	server.Close()
	next(t, failed)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := listen(b, "a").Wait(ctx); !errors.Is(err, rediserr.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestBus_hears_what_matches_a_pattern(t *testing.T) {
	t.Parallel()
	b, server := open(t)
	type message struct{ channel, payload string }
	heard := make(chan message, 10)
	all := b.ListenPattern("w:*", Listener{
		Confirmed: func() {},
		From:      func(channel, payload string) { heard <- message{channel, payload} },
	})
	one := listen(b, "w:1") // beside the pattern
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := all.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	wait(t, one)
	server.Publish("other", "no")
	server.Publish("w:1", "yes")
	if got := <-heard; got != (message{"w:1", "yes"}) {
		t.Errorf("the pattern hears %v", got)
	}
	if got := <-one.heard; got != "yes" {
		t.Errorf("the channel hears %q", got)
	}
	all.Close()
	server.Publish("w:1", "again")
	if got := <-one.heard; got != "again" {
		t.Errorf("the channel hears %q", got)
	}
}
