package notifier

import (
	"fmt"
	"slices"
	"testing"
)

func testQueue(capacity int) (q *queue, depth, dropped *int) {
	depth, dropped = new(int), new(int)
	q = newQueue(capacity, 2, func(change int) { *depth += change }, func(n int) { *dropped += n })
	return q, depth, dropped
}

func status(workflow, task string, attempt int32, s Status) Event {
	return Event{Kind: KindStatus, WorkflowID: workflow, RunID: "r", TaskID: task, Attempt: attempt, Status: s}
}

func progress(workflow, task string) Event {
	ev := status(workflow, task, 1, StatusRunning)
	ev.Kind = KindProgress
	return ev
}

// drain takes everything out of the queue, as "task STATUS" by workflow.
func drain(t *testing.T, q *queue) (events map[string][]string, dropped map[string]int) {
	t.Helper()
	events, dropped = make(map[string][]string), make(map[string]int)
	for {
		b, ok := q.take(maxBatch, maxBatchBytes)
		if !ok {
			return events, dropped
		}
		id := b.mailbox.workflowID
		dropped[id] += b.gap.dropped
		for _, it := range b.items {
			word := string(it.event.Status)
			if it.event.Kind == KindProgress {
				word = "progress"
			}
			events[id] = append(events[id], it.event.TaskID+" "+word)
		}
		q.done(b)
	}
}

func TestQueue_gives_up_what_matters_least(t *testing.T) {
	t.Parallel()
	const capacity = 16 // squeezed to 14
	for name, test := range map[string]struct {
		put     []Event
		want    []string // what is left of workflow "w"
		dropped int
	}{
		"nothing while there is room": {
			repeat(16, progress("w", "a")), slices.Repeat([]string{"a progress"}, 16), 0,
		},
		"first all progress but the last of each task": {
			concat(repeat(8, progress("w", "a")), repeat(8, progress("w", "b")), []Event{status("w", "a", 1, StatusSuccess)}),
			[]string{"a progress", "b progress", "a SUCCESS"}, 14,
		},
		"then all progress": {
			concat(each(15, func(i int) Event { return progress("w", fmt.Sprint(i)) }), []Event{status("w", "a", 1, StatusRunning), status("w", "a", 1, StatusSuccess)}),
			[]string{"a RUNNING", "a SUCCESS"}, 15,
		},
		"then statuses that were superseded": {
			concat(each(8, func(i int) Event { return status("w", fmt.Sprint(i), 1, StatusRunning) }),
				each(8, func(i int) Event { return status("w", fmt.Sprint(i), 1, StatusSuccess) }),
				[]Event{status("w", "0", 0, StatusPending)}),
			[]string{"0 SUCCESS", "1 SUCCESS", "2 SUCCESS", "3 SUCCESS", "4 SUCCESS", "5 SUCCESS", "6 SUCCESS", "7 SUCCESS"}, 9,
		},
		"then the oldest of the tasks": {
			concat([]Event{{Kind: KindStatus, WorkflowID: "w", RunID: "r", Status: StatusRunning}},
				each(16, func(i int) Event { return status("w", fmt.Sprint(i), 1, StatusRunning) })),
			[]string{" RUNNING", "3 RUNNING", "4 RUNNING", "5 RUNNING", "6 RUNNING", "7 RUNNING", "8 RUNNING", "9 RUNNING", "10 RUNNING",
				"11 RUNNING", "12 RUNNING", "13 RUNNING", "14 RUNNING", "15 RUNNING"}, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, depth, dropped := testQueue(capacity)
			for _, ev := range test.put {
				q.put(ev)
			}
			if *depth != len(test.want) || *dropped != test.dropped {
				t.Errorf("depth %d, dropped %d; want %d, %d", *depth, *dropped, len(test.want), test.dropped)
			}
			events, told := drain(t, q)
			if !slices.Equal(events["w"], test.want) {
				t.Errorf("left %q; want %q", events["w"], test.want)
			}
			if told["w"] != test.dropped {
				t.Errorf("the gap to be told is %d; want %d", told["w"], test.dropped)
			}
			if *depth != 0 || len(q.mailboxes) != 0 {
				t.Errorf("afterwards: depth %d, %d mailboxes", *depth, len(q.mailboxes))
			}
		})
	}
}

func TestQueue_keeps_within_its_capacity_whatever_comes(t *testing.T) {
	t.Parallel()
	const capacity = 64
	q, depth, dropped := testQueue(capacity)
	const n = 10_000
	for i := range n {
		q.put(status(fmt.Sprint("w", i), "a", 1, StatusRunning)) // one workflow each: nothing to coalesce
		if *depth > capacity {
			t.Fatalf("depth %d after %d events", *depth, i+1)
		}
		if len(q.mailboxes) > 2*capacity+capacity/8+1 {
			t.Fatalf("%d mailboxes after %d events", len(q.mailboxes), i+1)
		}
	}
	if *depth+*dropped != n {
		t.Errorf("%d queued and %d dropped of %d", *depth, *dropped, n)
	}
	events, _ := drain(t, q)
	if _, ok := events[fmt.Sprint("w", n-1)]; !ok {
		t.Error("the newest event is not among those kept")
	}
	if len(q.mailboxes) != 0 {
		t.Errorf("%d mailboxes are left", len(q.mailboxes))
	}
}

func TestQueue_keeps_the_order_when_a_batch_comes_back(t *testing.T) {
	t.Parallel()
	q, depth, _ := testQueue(100)
	for i := range 5 {
		q.put(status("w", fmt.Sprint(i), 1, StatusRunning))
	}
	b, _ := q.take(3, maxBatchBytes)
	if _, ok := q.take(3, maxBatchBytes); ok {
		t.Fatal("two senders have the same workflow")
	}
	q.put(status("w", "5", 1, StatusRunning))
	q.giveBack(b)
	b, _ = q.take(100, maxBatchBytes)
	if !b.uncertain {
		t.Error("the batch does not say that it may be in the log already")
	}
	for i, it := range b.items {
		if it.event.TaskID != fmt.Sprint(i) {
			t.Errorf("item %d is task %s", i, it.event.TaskID)
		}
	}
	q.done(b)
	if *depth != 0 || len(b.items) != 6 {
		t.Errorf("depth %d, %d items", *depth, len(b.items))
	}
}

func TestQueue_limits_the_bytes_of_a_batch(t *testing.T) {
	t.Parallel()
	q, _, _ := testQueue(100)
	for range 5 {
		ev := progress("w", "a")
		ev.Data = make([]byte, 40)
		q.put(ev)
	}
	for _, want := range []int{2, 2, 1} {
		b, ok := q.take(100, 100)
		if !ok || len(b.items) != want {
			t.Fatalf("took %d; want %d", len(b.items), want)
		}
		q.done(b)
	}
}

func repeat(n int, ev Event) []Event { return slices.Repeat([]Event{ev}, n) }

func each(n int, event func(i int) Event) []Event {
	var events []Event
	for i := range n {
		events = append(events, event(i))
	}
	return events
}

func concat(lists ...[]Event) []Event { return slices.Concat(lists...) }

// Attempt after attempt that finds Redis away is one pause in the log, and a full
// queue keeps it.
func TestQueue_keeps_one_event_of_each_pause(t *testing.T) {
	t.Parallel()
	const capacity = 16
	q, _, dropped := testQueue(capacity)
	for attempt := range int32(10) {
		q.put(status("w", "a", 1+attempt, StatusPaused))
		q.put(status("w", "b", 1+attempt, StatusPaused))
	}
	q.put(status("w", "a", 11, StatusRunning))
	q.put(status("w", "a", 11, StatusPaused))
	for range 8 {
		q.put(status("w", "c", 1, StatusRunning))
	}
	for range 8 {
		q.put(status("w", "c", 1, StatusFailed))
	}
	events, _ := drain(t, q)
	pauses := 0
	for _, ev := range events["w"] {
		if ev == "a PAUSED" || ev == "b PAUSED" {
			pauses++
		}
	}
	if pauses != 3 || *dropped == 0 {
		t.Errorf("%d pauses are left of %v, %d dropped; want 3, which a full queue keeps", pauses, events["w"], *dropped)
	}
}
