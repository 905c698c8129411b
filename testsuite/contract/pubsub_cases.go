package contract

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

func deliversInOrder(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	const n = 300
	for i := range n {
		publish(t, p, numbered("wf", i))
	}
	events := receive(t, sub, n)
	inOrder(t, events, 0)
	if ev := events[0]; ev.WorkflowID != "wf" || ev.RunID != "run-1" || ev.TaskID != "task" || ev.Attempt != 1 ||
		time.Since(ev.Time) > patience || ev.Time.Location() != time.UTC || ev.Snapshot {
		t.Fatalf("the event lost something on its way: %+v", ev)
	}
}

func keepsOrderOfEach(t *testing.T, b PubSubBackend) {
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	const publishers, n = 4, 60
	var all sync.WaitGroup
	for range publishers {
		p := b.OpenPublisher(t, notifier.PublisherOptions{})
		all.Go(func() {
			for i := range n {
				_ = p.Publish(numbered("wf", i)) // a loss is seen below
			}
		})
	}
	all.Wait()
	events := receive(t, sub, publishers*n)
	rises(t, events)
	seen := make(map[string]int)
	for _, ev := range events {
		seen[string(ev.Data)]++
	}
	for i := range n {
		if got := seen[fmt.Sprint(i)]; got != publishers {
			t.Fatalf("number %d came %d times; want %d", i, got, publishers)
		}
	}
}

func saysPrevious(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	publish(t, p,
		taskEvent("wf", "a", notifier.StatusWaiting),
		taskEvent("wf", "b", notifier.StatusRunning),
		taskEvent("wf", "a", notifier.StatusRunning),
		taskEvent("wf", "a", notifier.StatusSuccess))
	events := receive(t, sub, 4)
	told(t, events, "a WAITING", "b RUNNING", "a RUNNING", "a SUCCESS")
	for i, want := range []notifier.Status{"", "", notifier.StatusWaiting, notifier.StatusRunning} {
		if events[i].Previous != want {
			t.Fatalf("event %d says the status was %q before; want %q", i, events[i].Previous, want)
		}
	}
}

// Workflow code may run again on another worker, which then says the same.
func leavesOutRepeats(t *testing.T, b PubSubBackend) {
	one, two := b.OpenPublisher(t, notifier.PublisherOptions{}), b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	for _, p := range []PubSubPublisher{one, two} {
		publish(t, p, taskEvent("wf", "a", notifier.StatusRunning))
		flush(t, p)
	}
	publish(t, two, taskEvent("wf", "a", notifier.StatusSuccess))
	told(t, receive(t, sub, 2), "a RUNNING", "a SUCCESS")
}

func beginsWithSnapshot(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	publish(t, p,
		taskEvent("wf", "a", notifier.StatusRunning),
		taskEvent("wf", "b", notifier.StatusRunning),
		taskEvent("wf", "a", notifier.StatusSuccess),
		notifier.Event{WorkflowID: "wf", RunID: "run-1", Status: notifier.StatusRunning})
	flush(t, p)
	sub := subscribe(t, s, "wf")
	events := receive(t, sub, 3)
	told(t, events, "b RUNNING", "a SUCCESS", " RUNNING")
	rises(t, events)
	for _, ev := range events {
		if !ev.Snapshot {
			t.Fatalf("the event is not marked as a snapshot: %+v", ev)
		}
	}
	publish(t, p, taskEvent("wf", "b", notifier.StatusFailed))
	live := receive(t, sub, 1)
	told(t, live, "b FAILED")
	if live[0].Snapshot || live[0].Previous != notifier.StatusRunning || live[0].ID <= events[2].ID {
		t.Fatalf("the first event after the snapshot is %+v", live[0])
	}
}

func ignoresLate(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{LogLength: 16})
	attempt := func(task string, attempt int32, s notifier.Status, final bool) notifier.Event {
		ev := taskEvent("wf", task, s)
		ev.Attempt, ev.Final, ev.Reason = attempt, final, fmt.Sprintf("%s of attempt %d", s, attempt)
		return ev
	}
	for _, ev := range []notifier.Event{
		attempt("late", 1, notifier.StatusRunning, false),
		attempt("late", 0, notifier.StatusPending, false),
		attempt("zombie", 2, notifier.StatusRunning, false),
		attempt("zombie", 1, notifier.StatusSuccess, false),
		attempt("over", 0, notifier.StatusTimedOut, true),
		attempt("over", 3, notifier.StatusSuccess, false),
	} {
		publish(t, p, ev)
		flush(t, p) // in a round trip of its own
	}
	for i := range 20 { // out of the log with them
		publish(t, p, numbered("wf", i))
	}
	flush(t, p)
	events := receive(t, subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf"), 3)
	told(t, events, "late RUNNING", "zombie RUNNING", "over TIMED_OUT")
	for i, want := range []string{"RUNNING of attempt 1", "RUNNING of attempt 2", "TIMED_OUT of attempt 0"} {
		if events[i].Reason != want {
			t.Fatalf("the state has the details %q; want %q", events[i].Reason, want)
		}
	}
}

func missesNothing(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	const n = 120
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range n {
			_ = p.Publish(taskEvent("wf", fmt.Sprint(i), notifier.StatusRunning))
		}
	})
	defer publishing.Wait()
	for range 5 { // whenever it begins, each task is told once
		sub := subscribe(t, s, "wf")
		seen := make(map[string]bool)
		for _, ev := range receive(t, sub, n) {
			if seen[ev.TaskID] {
				t.Fatalf("task %s was told twice", ev.TaskID)
			}
			seen[ev.TaskID] = true
		}
		sub.Close()
	}
}

func goesOnAfter(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	first := subscribe(t, s, "wf")
	for i := range 10 {
		publish(t, p, numbered("wf", i))
	}
	seen := receive(t, first, 10)
	first.Close()
	for i := 10; i < 15; i++ {
		publish(t, p, numbered("wf", i))
	}
	flush(t, p)
	sub := subscribe(t, s, "wf", notifier.After(seen[3].Epoch, seen[3].ID))
	inOrder(t, receive(t, sub, 11), 4)
	publish(t, p, numbered("wf", 15))
	inOrder(t, receive(t, sub, 1), 15)
}

func replaysFromStart(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{LogLength: 16})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	early := subscribe(t, s, "wf", notifier.FromStart())
	for i := range 20 {
		publish(t, p, numbered("wf", i))
		if i < 10 {
			inOrder(t, receive(t, early, 1), i)
		}
	}
	flush(t, p)
	sub := subscribe(t, s, "wf", notifier.FromStart())
	inOrder(t, receive(t, sub, 16), 4)
}

func tellsTrimmedGap(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{LogLength: 16})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	first := subscribe(t, s, "wf")
	publish(t, p, taskEvent("wf", "a", notifier.StatusRunning))
	seen := receive(t, first, 1)[0]
	first.Close()
	publish(t, p, taskEvent("wf", "a", notifier.StatusSuccess))
	for i := range 20 {
		publish(t, p, numbered("wf", i))
	}
	flush(t, p)
	events := receive(t, subscribe(t, s, "wf", notifier.After(seen.Epoch, seen.ID)), 18)
	told(t, events[:2], "gap: "+notifier.GapTrimmed, "a SUCCESS")
	if !events[1].Snapshot || events[1].Epoch != seen.Epoch {
		t.Fatalf("no snapshot follows the gap: %+v", events[1])
	}
	inOrder(t, events[2:], 4)
}

func tellsRestartedGap(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	publish(t, p, taskEvent("wf", "a", notifier.StatusRunning))
	flush(t, p)
	sub := subscribe(t, s, "wf", notifier.After("another-epoch", 7))
	told(t, receive(t, sub, 2), "gap: "+notifier.GapRestarted, "a RUNNING")
}

func survivesFlush(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	publish(t, p, taskEvent("wf", "a", notifier.StatusRunning))
	before := receive(t, sub, 1)[0]
	b.Flush(t)
	publish(t, p, taskEvent("wf", "a", notifier.StatusSuccess))
	events := receive(t, sub, 2)
	told(t, events, "gap: "+notifier.GapRestarted, "a SUCCESS")
	if events[1].Epoch == before.Epoch || events[1].ID <= before.ID {
		t.Fatalf("after a flush the event has epoch %q and id %d, before it %q and %d",
			events[1].Epoch, events[1].ID, before.Epoch, before.ID)
	}
}

func sharesConnection(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	one, two := subscribe(t, s, "wf"), subscribe(t, s, "wf")
	if n := b.Listeners(t, "workflow:wf"); n != 1 {
		t.Fatalf("%d connections listen for two subscriptions; want 1", n)
	}
	publish(t, p, numbered("wf", 0))
	inOrder(t, receive(t, one, 1), 0)
	inOrder(t, receive(t, two, 1), 0)
	one.Close()
	publish(t, p, numbered("wf", 1))
	inOrder(t, receive(t, two, 1), 1)
}

func goesOnWithReuse(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	sub := subscribe(t, b.OpenSubscriber(t, notifier.SubscriberOptions{}), "wf")
	run := func(id string, s notifier.Status, final bool) notifier.Event {
		return notifier.Event{WorkflowID: "wf", RunID: id, Status: s, Final: final}
	}
	publish(t, p,
		run("one", notifier.StatusRunning, false), run("one", notifier.StatusSuccess, true),
		run("two", notifier.StatusRunning, false), run("two", notifier.StatusFailed, true))
	events := receive(t, sub, 4)
	told(t, events, " RUNNING", " SUCCESS", " RUNNING", " FAILED")
	for i, ends := range []bool{false, true, false, true} {
		if events[i].EndsWorkflow() != ends {
			t.Fatalf("event %d ends the workflow: %v; want %v", i, !ends, ends)
		}
	}
}

func keepsWorkflowsApart(t *testing.T, b PubSubBackend) {
	p := b.OpenPublisher(t, notifier.PublisherOptions{})
	s := b.OpenSubscriber(t, notifier.SubscriberOptions{})
	ids := []string{
		"a", "a:b", "a%3Ab", "{a}", "a}{b", "workflow:a", "*", "a?[bc]", "a b", "a\nb", "a\x00b", `a"b\`, "日本", "🙂",
		strings.Repeat("x", 1000),
	}
	subs := make([]*notifier.Subscription, len(ids))
	for i, id := range ids {
		subs[i] = subscribe(t, s, id)
	}
	for i, id := range ids {
		publish(t, p, numbered(id, i))
	}
	for i, id := range ids {
		ev := receive(t, subs[i], 1)[0]
		if ev.WorkflowID != id || string(ev.Data) != fmt.Sprint(i) {
			t.Fatalf("%.40q received what was for %.40q", id, ev.WorkflowID)
		}
	}
}
