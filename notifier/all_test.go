package notifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// active is all that Active lists.
func active(t *testing.T, h *Hub, limit int) []string {
	t.Helper()
	var all []string
	for cursor := uint64(0); ; {
		ids, next, err := h.Active(t.Context(), cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ids...)
		if cursor = next; cursor == 0 {
			slices.Sort(all)
			return slices.Compact(all)
		}
	}
}

func TestActive_lists_what_goes_on(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{})
	if ids := active(t, h, 10); len(ids) > 0 {
		t.Errorf("nothing runs, and it lists %q", ids)
	}
	mustPublish(t, p, status("a", "", 0, StatusRunning), status("b", "task", 1, StatusRunning), status("c", "", 0, StatusPending))
	mustFlush(t, p)
	eventually(t, "all are listed", func() bool { return slices.Equal(active(t, h, 1), []string{"a", "b", "c"}) })
	mustPublish(t, p, final("a", "", StatusSuccess), final("b", "task", StatusSuccess))
	mustFlush(t, p)
	eventually(t, "one has ended", func() bool { return slices.Equal(active(t, h, 10), []string{"b", "c"}) })
	mustPublish(t, p, status("a", "late", 1, StatusSuccess)) // of a worker that was slow
	mustFlush(t, p)
	mustPublish(t, p, status("d", "", 0, StatusRunning))
	mustFlush(t, p)
	eventually(t, "another has begun", func() bool { return slices.Equal(active(t, h, 10), []string{"b", "c", "d"}) })
	again := status("a", "", 0, StatusRunning)
	again.RunID = "another"
	mustPublish(t, p, again)
	mustFlush(t, p)
	eventually(t, "the id is used again", func() bool { return slices.Contains(active(t, h, 10), "a") })

	other := openPublisher(t, client, PublisherOptions{}) // another process ends the run, and this one begins the next
	mustPublish(t, other, final("c", "", StatusSuccess))
	mustFlush(t, other)
	eventually(t, "it has ended", func() bool { return !slices.Contains(active(t, h, 10), "c") })
	next := status("c", "", 0, StatusRunning)
	next.RunID = "next"
	mustPublish(t, p, next)
	mustFlush(t, p)
	eventually(t, "its id is used again", func() bool { return slices.Contains(active(t, h, 10), "c") })
}

func TestSubscribeAll_hears_of_every_workflow(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{})
	mustPublish(t, p, status("old", "", 0, StatusRunning))
	mustFlush(t, p)
	eventually(t, "it is listed", func() bool { return len(active(t, h, 10)) == 1 })
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const workflows = 20
	for n := range workflows {
		id := fmt.Sprint("w ", n) // escaped in the channel's name
		mustPublish(t, p, status(id, "", 0, StatusRunning), status(id, "a", 1, StatusRunning), final(id, "a", StatusSuccess), final(id, "", StatusSuccess))
	}
	mustPublish(t, p, final("old", "", StatusFailed))
	ended := make(map[string]Status)
	giveUp := time.After(patience)
	for len(ended) < workflows+1 {
		select {
		case ev := <-all.Events():
			if before, known := ended[ev.WorkflowID]; known {
				t.Errorf("%s: %s after the end as %s", ev.WorkflowID, ev.Status, before)
			}
			if ev.EndsWorkflow() {
				ended[ev.WorkflowID] = ev.Status
			}
		case <-giveUp:
			t.Fatalf("it heard of %v", ended)
		}
	}
	if ended["old"] != StatusFailed || ended["w 7"] != StatusSuccess {
		t.Errorf("it heard of %v", ended)
	}
	all.Close()
	for range all.Events() {
	}
	if err := all.Err(); err != nil {
		t.Errorf("closed, it says %v", err)
	}
	if _, err := h.SubscribeAll(t.Context(), After("", 7)); !errors.Is(err, ErrInvalidOptions) {
		t.Errorf("After gives %v", err)
	}
}

func TestAppend_gives_the_id_and_Read_finds_it(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{})
	var ids []int64
	for n := range 3 {
		id, err := p.Append(t.Context(), status("w", fmt.Sprint(n), 1, StatusRunning))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	events, err := h.Read(t.Context(), "w", ids[0], 1)
	if err != nil || len(events) != 1 || events[0].ID != ids[1] || events[0].TaskID != "1" {
		t.Errorf("after %d it reads %+v, %v", ids[0], events, err)
	}
	if events, err = h.Read(t.Context(), "w", 0, 0); err != nil || len(events) != 3 {
		t.Errorf("of all it reads %d, %v", len(events), err)
	}
	if _, err := p.Append(t.Context(), Event{WorkflowID: "w"}); !errors.Is(err, ErrInvalidEvent) {
		t.Errorf("an event without status gives %v", err)
	}
}

// nextOfAll is the next event of all workflows.
func nextOfAll(t *testing.T, all *All) Event {
	t.Helper()
	select {
	case ev := <-all.Events():
		return ev
	case <-time.After(patience):
		t.Fatal("no event comes")
		return Event{}
	}
}

// Bells are lost with their connection: then the lists tell, also of what has ended.
func TestSubscribeAll_hears_of_what_no_bell_told(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{CheckEvery: 10 * time.Millisecond})
	h.options.Sharded = true // so that it does not listen to the pattern
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, status("brief", "", 0, StatusRunning), final("brief", "", StatusSuccess)) // in one batch
	for _, want := range []Status{StatusRunning, StatusSuccess} {
		if ev := nextOfAll(t, all); ev.WorkflowID != "brief" || ev.Status != want {
			t.Errorf("it tells %+v; want %s", ev, want)
		}
	}
	mustPublish(t, p, status("long", "", 0, StatusRunning))
	if ev := nextOfAll(t, all); ev.WorkflowID != "long" {
		t.Errorf("it tells %+v", ev)
	}
}

// Of an id that was used before the subscription began, what is old is told as a state.
func TestSubscribeAll_does_not_tell_old_events_as_new_ones(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{})
	mustPublish(t, p, status("w", "", 0, StatusRunning), final("w", "", StatusSuccess))
	mustFlush(t, p)
	eventually(t, "it has ended", func() bool { return len(active(t, h, 10)) == 0 })
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := status("w", "", 0, StatusRunning)
	again.RunID = "again"
	mustPublish(t, p, again)
	first, second := nextOfAll(t, all), nextOfAll(t, all)
	if !first.Snapshot || first.Status != StatusSuccess || second.RunID != "again" {
		t.Errorf("it tells %+v and %+v", first, second)
	}
}

// What gave up is the subscription, and not its caller: it is an outage.
func TestSubscribeAll_tells_an_outage_as_one(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	client.AddHook(deaf{"zscan"})
	h := openHub(t, client, SubscriberOptions{ConnectTimeout: 200 * time.Millisecond, Timeout: patience})
	if _, err := h.SubscribeAll(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("it says %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.SubscribeAll(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("given up, it says %v", err)
	}
}

// deaf has one command wait until it is given up.
type deaf struct{ command string }

func (deaf) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d deaf) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == d.command {
			<-ctx.Done()
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

func (deaf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
