package contract

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// PubSubPublisher is a publisher as the PubSub suite needs it.
type PubSubPublisher interface {
	notifier.Publisher
	Flush(ctx context.Context) error
	Close(ctx context.Context) error
}

// PubSubSubscriber is a subscriber as the PubSub suite needs it.
type PubSubSubscriber interface {
	notifier.Subscriber
	Close() error
}

// PubSubBackend is a fresh store of events, as PubSub's tests need it.
type PubSubBackend struct {
	// OpenPublisher returns one more publisher on the store, as another process
	// would have it, and closes it at the end of the test. What else there is
	// in the options (a namespace, telemetry) is the backend's to add.
	OpenPublisher func(tb testing.TB, opts notifier.PublisherOptions) PubSubPublisher
	// OpenSubscriber does the same for a subscriber.
	OpenSubscriber func(tb testing.TB, opts notifier.SubscriberOptions) PubSubSubscriber
	// Listeners counts the connections that listen to the channel.
	Listeners func(tb testing.TB, channel string) int
	// Flush makes the store forget everything, as FLUSHALL does.
	Flush func(tb testing.TB)
}

// PubSub tests that a pair of notifier's Publisher and Subscriber keeps its
// contract: order, no repeats, snapshot, replay, gaps told, consumers that do
// not hold up each other, orderly ends. open is called once for each test, which
// run in parallel.
//
// It cannot show that events survive the faults of servers and networks.
func PubSub(t *testing.T, open func(tb testing.TB) PubSubBackend) {
	for _, test := range []struct {
		name  string
		check func(t *testing.T, b PubSubBackend)
	}{
		{"delivers in the order of publishing", deliversInOrder},
		{"keeps the order of each of several publishers", keepsOrderOfEach},
		{"says what the status was before", saysPrevious},
		{"leaves out what is known already", leavesOutRepeats},
		{"begins with the state of each task", beginsWithSnapshot},
		{"does not let what comes late change the state", ignoresLate},
		{"misses nothing between snapshot and live", missesNothing},
		{"goes on after a known event", goesOnAfter},
		{"replays the log from its start", replaysFromStart},
		{"tells a gap when the log no longer goes on", tellsTrimmedGap},
		{"tells a gap when the log is another one", tellsRestartedGap},
		{"goes on after a flush with a gap", survivesFlush},
		{"shares one connection between subscriptions", sharesConnection},
		{"goes on when a workflow id is used again", goesOnWithReuse},
		{"keeps workflow ids apart whatever they are made of", keepsWorkflowsApart},
		{"does not let a slow consumer hold up another", toleratesSlowConsumer},
		{"tells a consumer that was too slow for the log", tellsTooSlow},
		{"refuses bad events", refusesBadEvents},
		{"refuses bad subscriptions", refusesBadSubscriptions},
		{"publishes everything before it closes", publishesBeforeClose},
		{"ends subscriptions with a reason", endsWithReason},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.check(t, open(t))
		})
	}
}

// taskEvent is a status of a task in its first attempt.
func taskEvent(workflow, task string, s notifier.Status) notifier.Event {
	return notifier.Event{Kind: notifier.KindStatus, WorkflowID: workflow, RunID: "run-1", TaskID: task, Attempt: 1, Status: s}
}

// numbered is the n-th of many events of one task.
func numbered(workflow string, n int) notifier.Event {
	ev := taskEvent(workflow, "task", notifier.StatusRunning)
	ev.Kind = notifier.KindProgress
	ev.Data = fmt.Appendf(nil, "%d", n)
	return ev
}

func publish(t *testing.T, p PubSubPublisher, events ...notifier.Event) {
	t.Helper()
	for _, ev := range events {
		if err := p.Publish(ev); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
}

func flush(t *testing.T, p PubSubPublisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

func subscribe(t *testing.T, s PubSubSubscriber, workflow string, opts ...notifier.SubscribeOption) *notifier.Subscription {
	t.Helper()
	sub, err := s.Subscribe(t.Context(), workflow, opts...)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	t.Cleanup(sub.Close)
	return sub
}

// receive waits for the next n events.
func receive(t *testing.T, sub *notifier.Subscription, n int) []notifier.Event {
	t.Helper()
	events := make([]notifier.Event, 0, n)
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for len(events) < n {
		select {
		case ev, ok := <-sub.Events():
			if !ok {
				t.Fatalf("the subscription ended after %d of %d events: %v", len(events), n, sub.Err())
			}
			events = append(events, ev)
		case <-timeout.C:
			t.Fatalf("received %d of %d events; the last: %+v", len(events), n, events[max(len(events)-1, 0):])
		}
	}
	return events
}

// rises fails the test unless the ids rise within one epoch.
func rises(t *testing.T, events []notifier.Event) {
	t.Helper()
	for i := 1; i < len(events); i++ {
		before, ev := events[i-1], events[i]
		if ev.Epoch == "" || ev.Epoch != before.Epoch || ev.ID <= before.ID {
			t.Fatalf("event %d has epoch %q and id %d after %q and %d", i, ev.Epoch, ev.ID, before.Epoch, before.ID)
		}
	}
}

// inOrder fails the test unless the events are the numbered ones from first on.
func inOrder(t *testing.T, events []notifier.Event, first int) {
	t.Helper()
	rises(t, events)
	for i, ev := range events {
		if got, want := string(ev.Data), fmt.Sprint(first+i); got != want {
			t.Fatalf("event %d is number %s; want %s", i, got, want)
		}
	}
}

// told fails the test unless the tasks and statuses are these, as "task STATUS".
func told(t *testing.T, events []notifier.Event, want ...string) {
	t.Helper()
	got := make([]string, len(events))
	for i, ev := range events {
		if ev.Kind == notifier.KindGap {
			got[i] = "gap: " + ev.Reason
			continue
		}
		got[i] = ev.TaskID + " " + string(ev.Status)
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("got %q; want %q", got, want)
	}
}

func fails(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v; want %v", err, target)
	}
}
