package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/notifier"
)

// press publishes as the plugin of a worker does.
type press struct {
	t      *testing.T
	server *miniredis.Miniredis
	*notifier.BackgroundPublisher
}

func newPress(t *testing.T) *press {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	p, err := notifier.NewPublisher(client, notifier.PublisherOptions{
		Namespace: keys.NamespaceFor("default"), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return &press{t, server, p}
}

func (p *press) env() map[string]string {
	return map[string]string{"REDIS_URL": "redis://" + p.server.Addr()}
}

// tell publishes events of a run and waits until they are in Redis.
func (p *press) tell(workflow, run string, events ...notifier.Event) {
	p.t.Helper()
	for _, ev := range events {
		ev.WorkflowID, ev.RunID = workflow, run
		if err := p.Publish(ev); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := p.Flush(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// add publishes an event of a run and gives its id.
func (p *press) add(workflow, run string, ev notifier.Event) (id string) {
	p.t.Helper()
	ev.WorkflowID, ev.RunID = workflow, run
	n, err := p.Append(p.t.Context(), ev)
	if err != nil {
		p.t.Fatal(err)
	}
	return jsonNumber(n)
}

var (
	runs    = notifier.Event{Status: notifier.StatusRunning}
	taskRan = notifier.Event{TaskID: "charge", Call: 1, Attempt: 1, Status: notifier.StatusSuccess}
)

func ends(s notifier.Status) notifier.Event { return notifier.Event{Status: s, Final: true} }

func TestWatch_ends_as_the_workflow_did(t *testing.T) {
	t.Parallel()
	for status, want := range map[notifier.Status]int{
		notifier.StatusSuccess: 0, notifier.StatusFailed: exitFAILED, notifier.StatusTimedOut: exitTimedOut, notifier.StatusCanceled: exitCanceled,
	} {
		t.Run(string(status), func(t *testing.T) {
			t.Parallel()
			p := newPress(t)
			p.tell("order 17", "r", runs, taskRan, ends(status))
			code, out, errs := called(t, p.env(), "watch", "order 17")
			if code != want || !strings.Contains(out, "SUCCESS   charge") || !strings.Contains(out, string(status)+" ") || errs != "" && want == 0 {
				t.Errorf("it ended with %d and said\n%s%s", code, out, errs)
			}
		})
	}
}

// lines takes what a command writes, line by line.
type lines struct {
	mu   sync.Mutex
	part bytes.Buffer
	all  chan string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part.Write(b)
	for {
		line, err := l.part.ReadString('\n')
		if err != nil {
			l.part.Reset()
			l.part.WriteString(line)
			return len(b), nil
		}
		l.all <- line
	}
}

func (l *lines) next(t *testing.T) (ev notifier.Event) {
	t.Helper()
	select {
	case line := <-l.all:
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is written")
	}
	return ev
}

// watchLive runs a command beside the test, until stop.
func watchLive(t *testing.T, p *press, args ...string) (out *lines, code func(stop bool) int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out = &lines{all: make(chan string, 1000)}
	ended := make(chan int, 1)
	env := p.env()
	go func() {
		ended <- run(ctx, args, streams{out, io.Discard}, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	}()
	t.Cleanup(cancel)
	return out, func(stop bool) int {
		t.Helper()
		if stop {
			cancel()
		}
		select {
		case code := <-ended:
			return code
		case <-time.After(30 * time.Second):
			t.Fatal("it does not end")
			return -1
		}
	}
}

func TestWatch_tells_events_while_they_happen(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.tell("order", "earlier", runs, ends(notifier.StatusFailed)) // the id is used again
	p.tell("order", "r", runs)
	out, code := watchLive(t, p, "watch", "--json", "order")
	for _, want := range []string{"FAILED", "RUNNING"} { // by their ids
		if ev := out.next(t); string(ev.Status) != want || !ev.Snapshot {
			t.Errorf("it begins with %+v; want %s", ev, want)
		}
	}
	p.tell("order", "r", taskRan)
	ev := out.next(t)
	if ev.TaskID != "charge" || ev.Snapshot || ev.ID == 0 {
		t.Errorf("it tells %+v", ev)
	}
	p.tell("order", "r", ends(notifier.StatusSuccess))
	if ev := out.next(t); ev.Status != notifier.StatusSuccess || !ev.Final {
		t.Errorf("it tells %+v", ev)
	}
	if got := code(false); got != 0 {
		t.Errorf("it ended with %d", got)
	}
	_, text, _ := called(t, p.env(), "watch", "order", "--json", "--after", jsonNumber(ev.ID))
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, `"SUCCESS"`) {
		t.Errorf("after %d it says\n%s", ev.ID, text)
	}
}

func jsonNumber(n int64) string {
	text, _ := json.Marshal(n)
	return string(text)
}

func TestWatch_tells_of_all_workflows(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.tell("old", "r", runs)
	out, code := watchLive(t, p, "watch", "--all", "--json")
	if ev := out.next(t); ev.WorkflowID != "old" {
		t.Errorf("it tells %+v", ev)
	}
	p.tell("new", "r", runs, ends(notifier.StatusSuccess))
	for _, want := range []notifier.Status{notifier.StatusRunning, notifier.StatusSuccess} {
		if ev := out.next(t); ev.WorkflowID != "new" || ev.Status != want {
			t.Errorf("it tells %+v; want %s", ev, want)
		}
	}
	if got := code(true); got != 0 {
		t.Errorf("interrupted, it ended with %d", got)
	}
}

func TestWatch_waits_for_a_run_that_was_reset(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.tell("order", "r", runs, ends(notifier.StatusFailed))
	last := p.add("order", "reset", taskRan) // which says nothing of itself until its end
	_, code := watchLive(t, p, "watch", "order", "--json", "--after", last)
	ended := make(chan int, 1)
	go func() { ended <- code(false) }()
	select {
	case got := <-ended:
		t.Fatalf("the workflow goes on, and it ended with %d", got)
	case <-time.After(2 * settleFor):
	}
	p.tell("order", "reset", ends(notifier.StatusSuccess))
	if got := <-ended; got != 0 {
		t.Errorf("it ended with %d", got)
	}
}

func TestWatch_ends_although_a_task_outlived_its_run(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]func(first, last string) []string{
		"from now":      func(_, _ string) []string { return nil },
		"from an event": func(first, _ string) []string { return []string{"--after", first} },
		"from the last": func(_, last string) []string { return []string{"--after", last} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPress(t)
			first := p.add("order", "earlier", runs)
			p.tell("order", "earlier", ends(notifier.StatusFailed))
			p.tell("order", "r", runs, ends(notifier.StatusSuccess))
			last := p.add("order", "earlier", taskRan)
			_, code := watchLive(t, p, append([]string{"watch", "order"}, flags(first, last)...)...)
			if got := code(false); got != 0 {
				t.Errorf("it ended with %d", got)
			}
		})
	}
}

// The clock of the worker that ended a run may be ahead of the next one's.
func TestWatch_waits_for_a_run_that_began_before_the_last_ended(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	at := func(second int, ev notifier.Event) notifier.Event {
		ev.Time = time.Date(2026, 11, 29, 12, 0, second, 0, time.UTC)
		return ev
	}
	p.tell("order", "earlier", at(0, runs), at(5, ends(notifier.StatusFailed)))
	p.tell("order", "next", at(3, runs), at(6, taskRan))
	_, code := watchLive(t, p, "watch", "order", "--json")
	ended := make(chan int, 1)
	go func() { ended <- code(false) }()
	select {
	case got := <-ended:
		t.Fatalf("the workflow goes on, and it ended with %d", got)
	case <-time.After(2 * settleFor):
	}
	p.tell("order", "next", at(7, ends(notifier.StatusSuccess)))
	if got := <-ended; got != 0 {
		t.Errorf("it ended with %d", got)
	}
}
