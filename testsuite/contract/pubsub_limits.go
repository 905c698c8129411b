package contract

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

func toleratesSlowConsumer(t *testing.T, b PubSubBackend) {
	const n = 400 // within the log, far beyond the buffer
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{Buffer: 10})
	slow, quick := subscribe(t, s, "wf"), subscribe(t, s, "wf")
	for i := range n {
		publish(t, p, numbered("wf", i))
		if i%20 == 0 {
			flush(t, p)
		}
	}
	inOrder(t, receive(t, quick, n), 0)
	inOrder(t, receive(t, slow, n), 0)
}

func tellsTooSlow(t *testing.T, b PubSubBackend) {
	const n = 200
	p := b.OpenPublisher(t, notifier.PublisherOptions{LogLength: 16})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{Buffer: 4}), "wf")
	for i := range n {
		publish(t, p, numbered("wf", i))
		flush(t, p)
	}
	var last int64
	gaps, after := 0, false
	for next := 0; next < n; {
		ev := receive(t, sub, 1)[0]
		if ev.Kind == notifier.KindGap {
			gaps, after = gaps+1, true
			continue
		}
		var got int
		if err := json.Unmarshal(ev.Data, &got); err != nil {
			t.Fatal(err)
		}
		if ev.ID <= last || (got != next && !after) {
			t.Fatalf("number %d with id %d came after number %d with id %d, without a gap", got, ev.ID, next-1, last)
		}
		next, last, after = got+1, ev.ID, false
	}
	if gaps == 0 {
		t.Fatal("the consumer was not told that it missed events")
	}
}

func refusesBadEvents(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{MaxDataBytes: 100})
	for field, change := range map[string]func(*notifier.Event){
		"workflow_id": func(ev *notifier.Event) { ev.WorkflowID = strings.Repeat("x", 10_000) },
		"task_id":     func(ev *notifier.Event) { ev.TaskID = strings.Repeat("x", 10_000) },
		"reason":      func(ev *notifier.Event) { ev.Reason = "\xff" },
		"kind":        func(ev *notifier.Event) { ev.Kind = "other" },
		"status":      func(ev *notifier.Event) { ev.Status = "" },
		"attempt":     func(ev *notifier.Event) { ev.Attempt = -1 },
		"data is 102": func(ev *notifier.Event) { ev.Data = json.RawMessage(`"` + strings.Repeat("x", 100) + `"`) },
		"data is not": func(ev *notifier.Event) { ev.Data = json.RawMessage(`{`) },
	} {
		ev := taskEvent("wf", "a", notifier.StatusRunning)
		change(&ev)
		err := p.Publish(ev)
		fails(t, err, notifier.ErrInvalidEvent)
		if text := err.Error(); !strings.Contains(text, field) || strings.Contains(text, "\n") || len(text) > 400 {
			t.Errorf("the error does not name %s in one line: %s", field, text)
		}
	}
}

func refusesBadSubscriptions(t *testing.T, b PubSubBackend) {
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	for _, id := range []string{"", "\xff", strings.Repeat("x", 10_000)} {
		_, err := s.Subscribe(t.Context(), id)
		fails(t, err, notifier.ErrInvalidOptions)
	}
	_, err := s.Subscribe(t.Context(), "wf", notifier.After("", -1))
	fails(t, err, notifier.ErrInvalidOptions)
}

func publishesBeforeClose(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	const n = 100
	for i := range n {
		publish(t, p, numbered("wf", i))
	}
	for range 2 {
		if err := p.Close(t.Context()); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	fails(t, p.Publish(numbered("wf", n)), notifier.ErrClosed)
	inOrder(t, receive(t, sub, n), 0)
}

func endsWithReason(t *testing.T, b PubSubBackend) {
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	ended := func(sub *notifier.Subscription) error {
		t.Helper()
		select {
		case _, open := <-sub.Events():
			if open {
				t.Fatal("an event came out of nothing")
			}
		case <-time.After(patience):
			t.Fatal("the subscription did not end")
		}
		return sub.Err()
	}

	closed := subscribe(t, s, "wf")
	closed.Close()
	if err := ended(closed); err != nil {
		t.Errorf("a closed subscription ended with %v; want nil", err)
	}

	cause := errors.New("that will do")
	ctx, cancel := context.WithCancelCause(t.Context())
	sub, err := s.Subscribe(ctx, "wf")
	if err != nil {
		t.Fatal(err)
	}
	cancel(cause)
	fails(t, ended(sub), cause)

	last := subscribe(t, s, "wf")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	fails(t, ended(last), notifier.ErrClosed)
	_, err = s.Subscribe(t.Context(), "wf")
	fails(t, err, notifier.ErrClosed)
}
