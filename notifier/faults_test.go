package notifier

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// The pub/sub connection is dead and nobody said so. Readings are an hour
// apart, so that only the probe can find it.
func TestHub_finds_out_that_its_connection_is_dead(t *testing.T) {
	t.Parallel()
	server, direct := embedded(t)
	between := faultproxy.Start(t, server.Addr())
	h := openHub(t, through(t, between, nil), SubscriberOptions{
		CheckEvery: time.Hour, ProbeEvery: 300 * time.Millisecond, Timeout: 500 * time.Millisecond,
	})
	p := openPublisher(t, direct, PublisherOptions{})
	s := mustSubscribe(t, h, "w")
	mustPublish(t, p, status("w", "a", 1, StatusRunning))
	expect(t, receive(t, s, 1), []string{"a RUNNING"})
	between.BlackHolePresent(faultproxy.ToClient)
	mustPublish(t, p, status("w", "a", 1, StatusSuccess))
	expect(t, receive(t, s, 1), []string{"a SUCCESS"})
}

// Replies are lost all the time, and the host's client retries what it thinks
// it may. A server may run what a broken connection has delivered after the
// publisher looked whether it did; then the log has it twice, and subscribers
// are told once.
func TestHub_tells_each_event_once_whatever_happens_to_replies(t *testing.T) {
	t.Parallel()
	server, direct := embedded(t)
	between := faultproxy.Start(t, server.Addr())
	client := through(t, between, func(o *redis.Options) {
		o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = 5, time.Microsecond, time.Microsecond
	})
	p := openPublisher(t, client, PublisherOptions{Timeout: time.Second})
	s := mustSubscribe(t, openHub(t, direct, SubscriberOptions{}), "w")
	const n = 200
	for i := range n {
		ev := progress("w", "a") // each is news: only its number tells a repeat
		ev.Data = fmt.Append(nil, i)
		mustPublish(t, p, ev)
		if i%10 == 0 {
			between.LoseReplies()
			mustFlush(t, p)
		}
	}
	for i := range n {
		select {
		case ev := <-s.Events():
			if string(ev.Data) != fmt.Sprint(i) {
				t.Fatalf("instead of event %d came %+v", i, ev)
			}
		case <-time.After(patience):
			t.Fatalf("event %d did not come", i)
		}
	}
}

func TestHub_loses_nothing_when_its_connections_break(t *testing.T) {
	t.Parallel()
	server, direct := embedded(t)
	between := faultproxy.Start(t, server.Addr())
	h := openHub(t, through(t, between, nil), SubscriberOptions{CheckEvery: time.Hour, Timeout: time.Second})
	p := openPublisher(t, direct, PublisherOptions{})
	s := mustSubscribe(t, h, "w")
	const n = 400
	var want []string
	for i := range n {
		mustPublish(t, p, status("w", fmt.Sprint(i), 1, StatusRunning))
		want = append(want, fmt.Sprint(i, " RUNNING"))
		if i%40 == 0 {
			mustFlush(t, p)
			between.LoseReplies()
		}
	}
	expect(t, receive(t, s, n), want)
}
