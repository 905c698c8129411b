//go:build integration

package notifier_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
)

// A thousand workflows at once, each with events of three processes: none is missing,
// none comes twice, and those of one process come in its order.
func TestNotifier_tells_a_thousand_workflows_apart(t *testing.T) {
	t.Parallel()
	const workflows, processes, each = 1000, 3, 4
	server := redistest.Start(t)
	h := openHub(t, server.Client(t), notifier.SubscriberOptions{CheckEvery: time.Hour}) // bells only
	id := func(w int) string { return fmt.Sprint("w", w) }
	var subs []*notifier.Subscription
	for w := range workflows {
		s, err := h.Subscribe(t.Context(), id(w))
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, s)
	}
	var publishing sync.WaitGroup
	for process := range processes {
		p := openPublisher(t, server.Client(t), notifier.PublisherOptions{Buffer: workflows * each})
		publishing.Go(func() {
			for n := range each {
				for w := range workflows {
					if err := p.Publish(notifier.Event{
						WorkflowID: id(w), RunID: "r", TaskID: fmt.Sprint(process), Attempt: int32(n + 1), Status: notifier.StatusRunning,
					}); err != nil {
						t.Error(err)
					}
				}
			}
			flush(t, p)
		})
	}
	for w, s := range subs {
		seen := make(map[string]int32)
		for range processes * each {
			ev := next(t, s)
			if ev.Kind != notifier.KindStatus || ev.WorkflowID != id(w) || ev.Attempt != seen[ev.TaskID]+1 {
				t.Fatalf("workflow %d: after %v came %+v", w, seen, ev)
			}
			seen[ev.TaskID] = ev.Attempt
		}
	}
	publishing.Wait()
	for w, s := range subs {
		select {
		case ev := <-s.Events():
			t.Errorf("workflow %d: %+v is one too many", w, ev)
		default:
		}
	}
}

// slowEar makes connections that read nothing once they have subscribed, until it is let
// go: then they have ended, and what was under way is lost.
type slowEar struct{ letGo chan struct{} }

func (e *slowEar) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &slowConn{Conn: conn, ear: e, closed: make(chan struct{})}, err
}

type slowConn struct {
	net.Conn
	ear        *slowEar
	subscribed atomic.Bool
	closed     chan struct{}
	once       sync.Once
}

func (c *slowConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("subscribe")) {
		c.subscribed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.subscribed.Load() || !bytes.Contains(b[:n], []byte("xxxx")) {
		return n, err
	}
	select {
	case <-c.ear.letGo:
		return n, err
	default:
	}
	select {
	case <-c.ear.letGo:
	case <-c.closed:
	}
	return 0, io.EOF
}

func (c *slowConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Redis cuts off a subscriber that reads too slowly: the bells of most events are lost.
func TestNotifier_loses_nothing_when_it_is_cut_off_by_the_buffer_limit(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("client-output-buffer-limit", "pubsub", "256kb", "128kb", "1"))
	ear := &slowEar{make(chan struct{})}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Dialer: ear.dial, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	h := openHub(t, client, notifier.SubscriberOptions{CheckEvery: time.Hour, ProbeEvery: time.Hour}) // bells only
	s := subscribe(t, h)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{LogLength: 10_000})
	publish(t, p, 0, 1)
	follows(t, s, 0, 1)
	const events = 1500
	large := []byte(`"` + strings.Repeat("x", 10_000) + `"`)
	for n := 1; n < events; n++ {
		ev := running(n)
		ev.Data = large
		if err := p.Publish(ev); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, p)
	until(t, "it is cut off", func() bool {
		log, err := os.ReadFile(server.LogFile())
		return err == nil && strings.Contains(string(log), "output buffer limits")
	})
	close(ear.letGo)
	follows(t, s, 1, events)
}

// Ids rise also over a flush, so that who comes back with one from before is told.
func TestNotifier_gives_ids_that_rise_over_a_flush(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	h := openHub(t, server.Client(t), notifier.SubscriberOptions{})
	s := subscribe(t, h)
	last := notifier.Event{}
	for round := range 5 {
		publish(t, p, round*10, round*10+10)
		flush(t, p)
		if round > 0 {
			if gap := next(t, s); gap.Kind != notifier.KindGap || gap.Reason != notifier.GapRestarted {
				t.Fatalf("instead of a gap came %+v", gap)
			}
		}
		for n := round * 10; n < round*10+10; n++ {
			if ev := follows(t, s, n, n+1); ev.ID <= last.ID {
				t.Fatalf("id %d after %d", ev.ID, last.ID)
			} else {
				last = ev
			}
		}
		if err := control.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, p, 100, 101)
	flush(t, p)
	back, err := h.Subscribe(t.Context(), "w", notifier.After(last.Epoch, last.ID))
	if err != nil {
		t.Fatal(err)
	}
	if gap := next(t, back); gap.Kind != notifier.KindGap || gap.Reason != notifier.GapRestarted {
		t.Errorf("who comes back hears %+v", gap)
	}
	follows(t, back, 100, 101)
}

// until waits for a condition that has no event.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatalf("never: %s", what)
		}
	}
}
