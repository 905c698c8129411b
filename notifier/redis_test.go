package notifier

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

const patience = 30 * time.Second

// embedded is a Redis in this process, and a client of it.
func embedded(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	server := mini.Start(t)
	return server, clientOf(t, server)
}

func clientOf(t *testing.T, server *miniredis.Miniredis) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func openPublisher(t *testing.T, client redis.UniversalClient, o PublisherOptions) *BackgroundPublisher {
	t.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	p, err := NewPublisher(client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func openHub(t *testing.T, client redis.UniversalClient, o SubscriberOptions) *Hub {
	t.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	h, err := NewSubscriber(client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func mustFlush(t *testing.T, p *BackgroundPublisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func mustSubscribe(t *testing.T, h *Hub, workflow string, opts ...SubscribeOption) *Subscription {
	t.Helper()
	s, err := h.Subscribe(t.Context(), workflow, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// receive waits for the next n events, as "task STATUS".
func receive(t *testing.T, s *Subscription, n int) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		select {
		case ev, ok := <-s.Events():
			if !ok {
				t.Fatalf("the subscription ended after %q: %v", got, s.Err())
			}
			if ev.Kind == KindGap {
				got = append(got, "gap "+ev.Reason)
				continue
			}
			got = append(got, ev.TaskID+" "+string(ev.Status))
		case <-time.After(patience):
			t.Fatalf("received only %q", got)
		}
	}
	return got
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func eventKeys(t *testing.T, workflow string) keys.Events {
	t.Helper()
	space, err := keys.NewSpace("", "")
	if err != nil {
		t.Fatal(err)
	}
	return space.Events(workflow)
}

func TestLog_bounds_what_it_keeps(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{LogLength: 16, SnapshotTasks: 16, Retention: time.Hour})
	k := eventKeys(t, "w")

	// Many attempts of one task.
	for attempt := range int32(100) {
		for _, s := range []Status{StatusWaiting, StatusRunning, StatusFailed} {
			mustPublish(t, p, progress("w", "a"), status("w", "a", attempt, s))
			mustFlush(t, p)
		}
	}
	if fields, _ := server.HKeys(k.Details); len(fields) > 8 {
		t.Errorf("the details of one task after 100 attempts: %q", fields)
	}

	// Many tasks, of which one never ends.
	mustPublish(t, p, status("w", "endless", 1, StatusRunning))
	for i := range 100 {
		mustPublish(t, p, status("w", fmt.Sprint(i), 1, StatusSuccess))
		mustFlush(t, p)
	}
	members, _ := server.ZMembers(k.Snapshot)
	fields, _ := server.HKeys(k.Details)
	if len(members) > 16 || len(fields) > 16+8 {
		t.Errorf("the snapshot has %d tasks with %d details", len(members), len(fields))
	}
	for _, task := range []string{"endless", "99"} {
		if score, err := server.ZScore(k.Snapshot, "r/"+task); err != nil || score == 0 {
			t.Errorf("task %s is not in the snapshot", task)
		}
	}
	if entries, _ := server.List(k.Log); len(entries) != 16 {
		t.Errorf("the log has %d entries", len(entries))
	}

	for _, key := range []string{k.Seq, k.Epoch, k.Log, k.Snapshot, k.Details} {
		if ttl := server.TTL(key); ttl != time.Hour {
			t.Errorf("%s has %v to live", key, ttl)
		}
	}
	if others := len(server.Keys()); others != 6 { // one for all workflow ids
		t.Errorf("there are %d keys; want 6: %q", others, server.Keys())
	}
}

func TestLog_is_useful_to_plain_consumers(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	plain := client.Subscribe(t.Context(), "workflow:order%3A1")
	defer plain.Close()
	if _, err := plain.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := openPublisher(t, client, PublisherOptions{})
	mustPublish(t, p, status("order:1", "a", 1, StatusRunning), status("order:1", "a", 1, StatusSuccess))
	for _, want := range []Status{StatusRunning, StatusSuccess} {
		message, err := plain.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := decode(message.Payload)
		if err != nil || e.Status != want || e.WorkflowID != "order:1" || e.TaskID != "a" {
			t.Errorf("received %s, %v", message.Payload, err)
		}
	}
}

func TestLog_keeps_prefixes_apart(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	for _, o := range []PublisherOptions{{}, {Namespace: "other"}, {ChannelPrefix: "other"}} {
		p := openPublisher(t, client, o)
		mustPublish(t, p, status("w", o.Namespace+"/"+o.ChannelPrefix, 1, StatusRunning))
		mustFlush(t, p)
		s := mustSubscribe(t, openHub(t, client, SubscriberOptions{Namespace: o.Namespace, ChannelPrefix: o.ChannelPrefix}), "w")
		expect(t, receive(t, s, 1), []string{o.Namespace + "/" + o.ChannelPrefix + " RUNNING"})
		s.Close()
	}
}
