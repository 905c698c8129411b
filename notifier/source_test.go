package notifier

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

// oracle is a StatusSource that says what it is told to.
type oracle struct {
	mu     sync.Mutex
	states []Event
	err    error
	panics bool
	asked  int
}

func (o *oracle) States(context.Context, string) ([]Event, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	if o.panics {
		panic("secret")
	}
	return append([]Event(nil), o.states...), o.err
}

func (o *oracle) say(states ...Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states, o.err, o.panics = states, nil, false
}

func (o *oracle) times() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// heardOfLater waits until the source was asked a few times more.
func (o *oracle) heardOfLater(t *testing.T) {
	t.Helper()
	now := o.times()
	eventually(t, "the source is asked", func() bool { return o.times() > now+1 })
}

func final(workflow, task string, s Status) Event {
	ev := status(workflow, task, 0, s)
	ev.Final = true
	return ev
}

// nextOf is the next event of a subscription.
func nextOf(t *testing.T, s *Subscription) Event {
	t.Helper()
	select {
	case ev, ok := <-s.Events():
		if !ok {
			t.Fatalf("the subscription ended: %v", s.Err())
		}
		return ev
	case <-time.After(patience):
		t.Fatal("no event comes")
		return Event{}
	}
}

func silent(t *testing.T, s *Subscription) {
	t.Helper()
	select {
	case ev := <-s.Events():
		t.Errorf("it tells %+v", ev)
	default:
	}
}

func TestStatusSource_tells_what_never_came_to_the_log(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	mustPublish(t, p, status("w", "", 0, StatusRunning), status("w", "a", 1, StatusRunning))
	mustFlush(t, p)
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond})
	source := new(oracle)
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	nextOf(t, s)
	nextOf(t, s)

	source.say(status("w", "", 0, StatusRunning), status("w", "a", 1, StatusWaiting), status("w", "a", 0, StatusPending))
	source.heardOfLater(t)
	silent(t, s) // the log says as much

	source.say(final("w", "", StatusFailed), final("w", "a", StatusTimedOut))
	for _, want := range []string{" FAILED", "a TIMED_OUT"} {
		ev := nextOf(t, s)
		if ev.TaskID+" "+string(ev.Status) != want || ev.Origin != OriginSource || ev.ID != 0 || ev.Previous != StatusRunning || !ev.Final {
			t.Errorf("it tells %+v; want %q of the source", ev, want)
		}
	}
	source.heardOfLater(t)
	silent(t, s) // once

	late := mustSubscribe(t, h, "w", WithStatusSource(source))
	nextOf(t, late)
	nextOf(t, late) // the log's
	if a, b := nextOf(t, late), nextOf(t, late); a.Status != StatusFailed || b.Status != StatusTimedOut {
		t.Errorf("who comes later hears %v and %v", a.Status, b.Status)
	}

	mustPublish(t, p, final("w", "", StatusFailed)) // what a publisher had kept
	if ev := nextOf(t, s); ev.Status != StatusFailed || ev.Origin != "" || ev.ID == 0 {
		t.Errorf("it tells %+v; want the log's", ev)
	}
	source.heardOfLater(t)
	silent(t, s)
}

func TestStatusSource_goes_on_while_Redis_is_away(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	mustPublish(t, p, status("w", "a", 1, StatusRunning), status("w", "b", 1, StatusWaiting))
	mustFlush(t, p)
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond, CheckEvery: 10 * time.Millisecond})
	source := new(oracle)
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	nextOf(t, s)
	nextOf(t, s)
	source.say(status("w", "a", 1, StatusPaused))
	source.heardOfLater(t)
	silent(t, s) // Redis is there, and says that it runs

	server.Close()
	source.say(status("w", "b", 1, StatusRunning), status("w", "a", 1, StatusPaused)) // Temporal knows of no lock
	if ev := nextOf(t, s); ev.Status != StatusPaused || ev.Origin != OriginSource {
		t.Errorf("it tells %+v", ev)
	}
	source.say(status("w", "a", 1, StatusRunning))
	if ev := nextOf(t, s); ev.Status != StatusRunning || ev.Origin != OriginSource {
		t.Errorf("it tells %+v", ev)
	}
	mini.Restart(t, server)
	mustPublish(t, p, final("w", "a", StatusSuccess))
	if ev := nextOf(t, s); ev.Status != StatusSuccess || ev.Origin != "" {
		t.Errorf("it tells %+v", ev)
	}
	source.heardOfLater(t)
	silent(t, s) // RUNNING is over
}

func TestStatusSource_begins_a_subscription_while_Redis_is_away(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	server.Close()
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond, ConnectTimeout: 2 * time.Second})
	source := &oracle{err: errors.New("away too")}
	if _, err := h.Subscribe(t.Context(), "w", WithStatusSource(source)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with neither of them there it gives %v", err)
	}
	source.say(status("w", "a", 1, StatusRunning))
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	if ev := nextOf(t, s); ev.Status != StatusRunning || ev.Origin != OriginSource {
		t.Errorf("it tells %+v", ev)
	}
	source.heardOfLater(t)
	silent(t, s)
	mini.Restart(t, server)
	mustPublish(t, p, status("w", "a", 1, StatusSuccess))
	if ev := nextOf(t, s); ev.Status != StatusSuccess || ev.Origin != "" {
		t.Errorf("it tells %+v", ev)
	}
}

func TestStatusSource_that_fails_harms_nobody(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond})
	source := &oracle{panics: true}
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	source.heardOfLater(t)
	silent(t, s)
	source.say(status("w", "a", 1, "NONSENSE"), status("w", "a", 1, StatusRunning))
	if ev := nextOf(t, s); ev.Status != StatusRunning {
		t.Errorf("it tells %+v", ev)
	}
}

// The log comes back with less than the source said: the last word is the source's.
func TestStatusSource_has_the_last_word_when_Redis_is_back(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	mustPublish(t, p, status("w", "", 0, StatusRunning))
	mustFlush(t, p)
	server.Close()
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond, ConnectTimeout: 2 * time.Second})
	source := new(oracle)
	source.say(final("w", "", StatusFailed))
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	if ev := nextOf(t, s); ev.Status != StatusFailed || ev.Origin != OriginSource {
		t.Errorf("it begins with %+v", ev)
	}
	source.heardOfLater(t)
	mini.Restart(t, server)
	if ev := nextOf(t, s); ev.Status != StatusRunning || !ev.Snapshot {
		t.Errorf("the log says %+v", ev)
	}
	if ev := nextOf(t, s); ev.Status != StatusFailed || ev.Origin != OriginSource {
		t.Errorf("the last word is %+v", ev)
	}
}

// Of a task that the log does not have, each change is told.
func TestStatusSource_follows_what_the_log_does_not_have(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond})
	source := new(oracle)
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	for _, word := range []Status{StatusRunning, StatusPaused, StatusRunning, StatusWaiting} {
		source.say(status("w", "a", 1, word))
		if ev := nextOf(t, s); ev.Status != word {
			t.Errorf("it tells %+v; want %s", ev, word)
		}
	}
	source.heardOfLater(t)
	silent(t, s)
}

// What was said of a run that is not the newest is told to nobody who comes later.
func TestStatusSource_forgets_earlier_runs(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond})
	source := new(oracle)
	of := func(run string, events ...Event) []Event {
		for i := range events {
			events[i].RunID = run
		}
		return events
	}
	source.say(of("first", status("w", "", 0, StatusRunning), status("w", "a", 1, StatusRunning))...)
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	nextOf(t, s)
	nextOf(t, s)
	source.say(of("second", status("w", "", 0, StatusRunning))...)
	if ev := nextOf(t, s); ev.RunID != "second" {
		t.Errorf("it tells %+v", ev)
	}
	late := mustSubscribe(t, h, "w", WithStatusSource(source))
	if ev := nextOf(t, late); ev.RunID != "second" {
		t.Errorf("who comes later hears %+v", ev)
	}
	source.heardOfLater(t)
	silent(t, late)
}

// Who is behind hears what the log has before what the source said beyond it.
func TestStatusSource_comes_behind_the_log(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{StatusEvery: 10 * time.Millisecond})
	source := new(oracle)
	s := mustSubscribe(t, h, "w", WithStatusSource(source))
	const events = 200 // more than a subscription takes at once, and than its channel holds
	for n := range events {
		mustPublish(t, p, status("w", "a", int32(n+1), StatusRunning))
	}
	mustFlush(t, p)
	source.say(final("w", "a", StatusSuccess))
	eventually(t, "the source has told", func() bool {
		s.feed.mu.Lock()
		defer s.feed.mu.Unlock()
		return s.feed.number > 0
	})
	for n := range events {
		if ev := nextOf(t, s); ev.Attempt != int32(n+1) {
			t.Fatalf("instead of %d came %+v", n+1, ev)
		}
	}
	if ev := nextOf(t, s); ev.Origin != OriginSource {
		t.Errorf("at the end comes %+v", ev)
	}
}
