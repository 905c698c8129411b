//go:build integration

package notifier_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

const patience = 60 * time.Second

func openPublisher(tb testing.TB, client redis.UniversalClient, o notifier.PublisherOptions) *notifier.BackgroundPublisher {
	tb.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	p, err := notifier.NewPublisher(client, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func openHub(tb testing.TB, client redis.UniversalClient, o notifier.SubscriberOptions) *notifier.Hub {
	tb.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	h, err := notifier.NewSubscriber(client, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

func subscribe(t *testing.T, h *notifier.Hub) *notifier.Subscription {
	t.Helper()
	s, err := h.Subscribe(t.Context(), "w")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// running is the n-th event of many: task n runs.
func running(n int) notifier.Event {
	return notifier.Event{WorkflowID: "w", RunID: "r", TaskID: fmt.Sprint(n), Attempt: 1, Status: notifier.StatusRunning}
}

func publish(t *testing.T, p *notifier.BackgroundPublisher, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := p.Publish(running(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t *testing.T, p *notifier.BackgroundPublisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, s *notifier.Subscription) notifier.Event {
	t.Helper()
	select {
	case ev, ok := <-s.Events():
		if !ok {
			t.Fatalf("the subscription ended: %v", s.Err())
		}
		return ev
	case <-time.After(patience):
		t.Fatal("no event came")
	}
	panic("not reached")
}

// follows fails the test unless the next events are those of [from, to), live
// and in order. It returns the last.
func follows(t *testing.T, s *notifier.Subscription, from, to int) (ev notifier.Event) {
	t.Helper()
	for n := from; n < to; n++ {
		if ev = next(t, s); ev.TaskID != fmt.Sprint(n) || ev.Kind != notifier.KindStatus || ev.Snapshot {
			t.Fatalf("instead of event %d came %+v", n, ev)
		}
	}
	return ev
}

func TestPubSub_on_redis_server(t *testing.T) {
	t.Parallel()
	contract.PubSub(t, func(tb testing.TB) contract.PubSubBackend {
		server := redistest.Start(tb)
		client, control := server.Client(tb), server.ControlClient(tb)
		return contract.PubSubBackend{
			OpenPublisher: func(tb testing.TB, o notifier.PublisherOptions) contract.PubSubPublisher {
				return openPublisher(tb, client, o)
			},
			OpenSubscriber: func(tb testing.TB, o notifier.SubscriberOptions) contract.PubSubSubscriber {
				return openHub(tb, client, o)
			},
			Listeners: func(tb testing.TB, channel string) int {
				n, err := control.PubSubNumSub(tb.Context(), channel).Result()
				if err != nil {
					tb.Fatal(err)
				}
				return int(n[channel])
			},
			Flush: func(tb testing.TB) {
				if err := control.FlushAll(tb.Context()).Err(); err != nil {
					tb.Fatal(err)
				}
			},
		}
	})
}

func TestNotifier_goes_on_where_it_was_when_a_persistent_Redis_crashes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPersistence())
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	s := subscribe(t, openHub(t, server.Client(t), notifier.SubscriberOptions{}))
	for round := range 3 {
		publish(t, p, round*100, round*100+50)
		server.Kill()
		publish(t, p, round*100+50, round*100+100) // kept until it is back
		server.MustRestart(t)
		follows(t, s, round*100, round*100+100)
	}
}

func TestNotifier_tells_a_gap_when_Redis_comes_back_empty(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	s := subscribe(t, openHub(t, server.Client(t), notifier.SubscriberOptions{}))
	publish(t, p, 0, 10)
	before := follows(t, s, 0, 10)
	server.Kill()
	publish(t, p, 10, 20)
	server.MustRestart(t)
	gap := next(t, s)
	if gap.Kind != notifier.KindGap || gap.Reason != notifier.GapRestarted || gap.Epoch == before.Epoch {
		t.Fatalf("instead of a gap came %+v", gap)
	}
	follows(t, s, 10, 20)
}

// A snapshot file is older than what subscribers have seen, and the ids are
// given out again.
func TestNotifier_tells_a_gap_when_Redis_comes_back_with_an_older_state(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	s := subscribe(t, openHub(t, server.Client(t), notifier.SubscriberOptions{}))
	publish(t, p, 0, 10)
	follows(t, s, 0, 10)
	if err := server.ControlClient(t).Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 10, 15)
	follows(t, s, 10, 15)
	server.Kill()
	publish(t, p, 15, 30)
	server.MustRestart(t)
	if gap := next(t, s); gap.Kind != notifier.KindGap || gap.Reason != notifier.GapRestarted {
		t.Fatalf("instead of a gap came %+v", gap)
	}
	// All that this Redis knows, then on.
	follows(t, s, 0, 10)
	follows(t, s, 15, 30)
}

func TestNotifier_sits_out_a_hanging_Redis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{Timeout: 200 * time.Millisecond})
	s := subscribe(t, openHub(t, server.Client(t), notifier.SubscriberOptions{
		Timeout: 200 * time.Millisecond, ProbeEvery: 100 * time.Millisecond, CheckEvery: 100 * time.Millisecond,
	}))
	publish(t, p, 0, 10)
	follows(t, s, 0, 10)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 10, 60)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // many tries
	defer cancel()
	if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("flush on a hanging Redis: %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	follows(t, s, 10, 60)
	flush(t, p)
	if n := server.Client(t).LLen(t.Context(), "temporal-redis:events:{workflow:w}:log").Val(); n > 60+10 {
		t.Errorf("the log has %d entries for 60 events: appends were sent again and again", n)
	}
}

func TestNotifier_loses_nothing_when_its_pubsub_connection_is_killed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{LogLength: 10_000})
	h := openHub(t, server.Client(t), notifier.SubscriberOptions{CheckEvery: time.Hour}) // bells only
	s := subscribe(t, h)
	const n = 2000
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range n {
			_ = p.Publish(running(i)) // a loss is seen below
			if i%50 == 0 {
				_ = p.Flush(t.Context())
			}
		}
	})
	defer publishing.Wait()
	kills := 0
	for i := range n {
		follows(t, s, i, i+1)
		if i%100 == 0 {
			killed, err := control.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result()
			if err != nil {
				t.Fatal(err)
			}
			kills += int(killed)
		}
	}
	if kills == 0 {
		t.Error("no connection was killed")
	}
}

func TestNotifier_serves_many_subscriptions_over_one_connection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	h := openHub(t, server.Client(t), notifier.SubscriberOptions{})
	const subscribers, n = 50, 400
	var consuming sync.WaitGroup
	for range subscribers {
		s := subscribe(t, h)
		consuming.Go(func() {
			for i := range n {
				if ev, ok := <-s.Events(); !ok || ev.TaskID != fmt.Sprint(i) {
					t.Errorf("instead of event %d came %+v", i, ev)
					return
				}
			}
		})
	}
	clients, err := control.Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	if connections := strings.Count(clients, "\n"); connections != 1 {
		t.Errorf("%d pub/sub connections for %d subscriptions; want 1", connections, subscribers)
	}
	publish(t, p, 0, n)
	consuming.Wait()
}

// flushFails waits until a flush tells why nothing is sent. One that ends before Redis
// was asked tells that its time is over.
func flushFails(t *testing.T, p *notifier.BackgroundPublisher, why error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := p.Flush(ctx)
		cancel()
		switch {
		case errors.Is(err, why):
			return
		case !errors.Is(err, context.DeadlineExceeded) || time.Now().After(deadline):
			t.Fatalf("flush gave %v; want %v", err, why)
		}
	}
}

func TestNotifier_waits_for_memory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("maxmemory", "8mb"), redistest.WithConfig("maxmemory-policy", "noeviction"))
	control := server.ControlClient(t)
	p := openPublisher(t, server.Client(t), notifier.PublisherOptions{})
	s := subscribe(t, openHub(t, server.Client(t), notifier.SubscriberOptions{}))
	publish(t, p, 0, 10)
	follows(t, s, 0, 10)
	if err := control.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 10, 20)
	flushFails(t, p, notifier.ErrUnavailable)
	if err := control.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	follows(t, s, 10, 20)
}

func TestNotifier_waits_for_permission(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "~*", "resetchannels", "+@all"))
	control := server.ControlClient(t)
	allow := func(rules ...any) {
		t.Helper()
		if err := control.Do(t.Context(), append([]any{"acl", "setuser", "app"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	options := server.Options()
	options.Username, options.Password = "app", "secret"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	h := openHub(t, client, notifier.SubscriberOptions{ConnectTimeout: time.Hour})
	if _, err := h.Subscribe(t.Context(), "w"); !errors.Is(err, notifier.ErrDenied) {
		t.Fatalf("subscribe without permission: %v", err)
	}
	p := openPublisher(t, client, notifier.PublisherOptions{})
	publish(t, p, 0, 10)
	flushFails(t, p, notifier.ErrDenied)
	allow("allchannels")
	s, err := h.Subscribe(t.Context(), "w", notifier.FromStart())
	if err != nil {
		t.Fatal(err)
	}
	follows(t, s, 0, 10)
}

// An operator allows the channels of workflows, and not our probe's.
func TestNotifier_works_without_permission_to_probe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "~temporal-redis:*", "resetchannels", "&workflow:*", "+@all"))
	options := server.Options()
	options.Username, options.Password = "app", "secret"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	s := subscribe(t, openHub(t, client, notifier.SubscriberOptions{}))
	p := openPublisher(t, client, notifier.PublisherOptions{})
	publish(t, p, 0, 10)
	follows(t, s, 0, 10)
}
