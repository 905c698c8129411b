package notifier

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/mini"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestHub_says_in_bounded_time_that_Redis_is_down(t *testing.T) {
	t.Parallel()
	server := mini.Start(t)
	client := clientOf(t, server)
	server.Close()
	h := openHub(t, client, SubscriberOptions{ConnectTimeout: 200 * time.Millisecond})
	for name, ctx := range map[string]func() (context.Context, context.CancelFunc){
		"by ConnectTimeout": func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) },
		"by the context": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 50*time.Millisecond)
		},
	} {
		ctx, cancel := ctx()
		start := time.Now()
		_, err := h.Subscribe(ctx, "w")
		if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got error %v", name, err)
		}
		if took := time.Since(start); took > patience/2 {
			t.Errorf("%s: it took %v", name, took)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Subscribe(ctx, "w"); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a caller who gave up gets %v", err)
	}
}

func TestHub_waits_for_a_Redis_that_comes_up(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	server.Close()
	h := openHub(t, client, SubscriberOptions{ConnectTimeout: patience})
	type result struct {
		s   *Subscription
		err error
	}
	subscribed := make(chan result, 1)
	go func() {
		s, err := h.Subscribe(t.Context(), "w")
		subscribed <- result{s, err}
	}()
	mini.Restart(t, server)
	r := <-subscribed
	if r.err != nil {
		t.Fatal(r.err)
	}
	mustPublish(t, openPublisher(t, client, PublisherOptions{}), status("w", "a", 1, StatusRunning))
	expect(t, receive(t, r.s, 1), []string{"a RUNNING"})
}

func TestHub_says_at_once_that_access_is_refused(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	server.RequireAuth("secret")
	h := openHub(t, client, SubscriberOptions{ConnectTimeout: time.Hour})
	if _, err := h.Subscribe(t.Context(), "w"); !errors.Is(err, ErrDenied) {
		t.Errorf("got error %v", err)
	}
	server.RequireAuth("")
	s := mustSubscribe(t, h, "w") // the refusal is not held against it
	s.Close()
}

func TestHub_finds_without_a_bell_what_is_in_the_log(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{CheckEvery: 20 * time.Millisecond})
	p := openPublisher(t, client, PublisherOptions{})
	s := mustSubscribe(t, h, "w")
	mustPublish(t, p, status("w", "a", 1, StatusRunning))
	expect(t, receive(t, s, 1), []string{"a RUNNING"})

	e := &entry{Event: status("w", "silent", 1, StatusRunning)}
	body, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	k := eventKeys(t, "w")
	_, err = client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Incr(t.Context(), k.Seq)
		pipe.RPush(t.Context(), k.Log, body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, receive(t, s, 1), []string{"silent RUNNING"})
}

func TestHub_leaves_out_what_is_not_ours(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{})
	p := openPublisher(t, client, PublisherOptions{})
	s := mustSubscribe(t, h, "w")
	mustPublish(t, p, status("w", "a", 1, StatusRunning))
	expect(t, receive(t, s, 1), []string{"a RUNNING"})
	k := eventKeys(t, "w")
	_, err := client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Incr(t.Context(), k.Seq)
		pipe.RPush(t.Context(), k.Log, "garbage")
		pipe.Publish(t.Context(), k.Channel, "garbage")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, status("w", "a", 1, StatusSuccess))
	expect(t, receive(t, s, 1), []string{"a SUCCESS"})
	late := mustSubscribe(t, h, "w", FromStart())
	expect(t, receive(t, late, 2), []string{"a RUNNING", "a SUCCESS"})
}

func TestHub_tells_a_log_that_went_back_under_its_epoch(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{CheckEvery: time.Hour})
	p := openPublisher(t, client, PublisherOptions{})
	s := mustSubscribe(t, h, "w")
	mustPublish(t, p, status("w", "a", 1, StatusRunning), status("w", "b", 1, StatusRunning))
	expect(t, receive(t, s, 2), []string{"a RUNNING", "b RUNNING"})
	// A fail-over lost b, and c took its place: the ids look right.
	k := eventKeys(t, "w")
	if _, err := server.Pop(k.Log); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Incr(k.Seq, -1); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, status("w", "c", 1, StatusRunning), status("w", "d", 1, StatusRunning))
	// What stands in the snapshot and no longer in the log comes first.
	expect(t, receive(t, s, 5), []string{"gap log restarted", "b RUNNING", "a RUNNING", "c RUNNING", "d RUNNING"})
}

func TestHub_lets_go_of_what_nobody_listens_to(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{})
	one, two := mustSubscribe(t, h, "one"), mustSubscribe(t, h, "two")
	one.Close()
	eventually(t, "the channel is unsubscribed", func() bool { return server.PubSubNumSub("workflow:one")["workflow:one"] == 0 })
	if n := server.PubSubNumSub("workflow:two")["workflow:two"]; n != 1 {
		t.Errorf("%d connections listen to the other workflow; want 1", n)
	}
	two.Close()
	eventually(t, "the connection is closed", func() bool { return len(server.PubSubChannels("*")) == 0 })
	again := mustSubscribe(t, h, "one")
	mustPublish(t, openPublisher(t, client, PublisherOptions{}), status("one", "a", 1, StatusRunning))
	expect(t, receive(t, again, 1), []string{"a RUNNING"})
}

func TestHub_counts_each_event_once_and_times_it(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{})
	p := openPublisher(t, client, PublisherOptions{})
	subs := []*Subscription{mustSubscribe(t, h, "w"), mustSubscribe(t, h, "w"), mustSubscribe(t, h, "w")}
	for i := range 20 {
		mustPublish(t, p, status("w", fmt.Sprint(i), 1, StatusRunning))
	}
	for _, s := range subs {
		receive(t, s, 20)
	}
	// The count follows the delivery.
	eventually(t, "20 events are counted", func() bool {
		return testutil.ToFloat64(h.tel.Metrics.PubSubMsgs.WithLabelValues(telemetry.Received)) == 20
	})
	if n := testutil.CollectAndCount(h.tel.Metrics.PubSubLatency); n != 1 {
		t.Errorf("%d latency histograms", n)
	}
}

func TestHub_starts_and_stops_any_number_of_times(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	for i := range 50 {
		h := openHub(t, client, SubscriberOptions{})
		workflow := fmt.Sprint("w", i)
		var consumers sync.WaitGroup
		for range 4 {
			consumers.Go(func() {
				s, err := h.Subscribe(t.Context(), workflow)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				for range s.Events() {
				}
				if !errors.Is(s.Err(), ErrClosed) {
					t.Errorf("the subscription ended with %v", s.Err())
				}
			})
		}
		mustPublish(t, p, status(workflow, "a", 1, StatusRunning))
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		consumers.Wait()
	}
}
