package compozy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/compozy"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
	"github.com/compozy/temporal-redis/notifier"
)

// The types and interfaces are Compozy's (packages cache, streaming and core), but for
// their names.
type (
	theirMessage struct {
		Channel string
		Payload []byte
		Time    time.Time
	}
	theirMetrics struct {
		MessagesPublished, MessagesReceived, PublishErrors, SubscribeErrors int64
		ActiveChannels                                                      int
		AverageLatency                                                      time.Duration
		DroppedMessages                                                     int64
	}
	theirNotificationSystem interface {
		Publish(ctx context.Context, channel string, message any) error
		Close() error
		Subscribe(ctx context.Context, channels ...string) (<-chan theirMessage, error)
		SubscribePattern(ctx context.Context, patterns ...string) (<-chan theirMessage, error)
		GetMetrics() theirMetrics
		PublishWorkflowEvent(ctx context.Context, workflowID, event, status string, data map[string]any) error
		PublishTaskEvent(ctx context.Context, taskID, workflowID, event, status string, data map[string]any) error
		SubscribeToWorkflow(ctx context.Context, workflowID string) (<-chan theirMessage, error)
		SubscribeToTask(ctx context.Context, taskID string) (<-chan theirMessage, error)
		SubscribeToAllWorkflows(ctx context.Context) (<-chan theirMessage, error)
		SubscribeToAllTasks(ctx context.Context) (<-chan theirMessage, error)
	}
	theirID    string
	theirEvent struct {
		Type string
		Data any
	}
	theirEnvelope struct {
		ID        int64
		ExecID    theirID
		Type      string
		Timestamp time.Time
		Data      json.RawMessage
	}
	theirPublisher interface {
		Publish(ctx context.Context, execID theirID, event theirEvent) (theirEnvelope, error)
		Replay(ctx context.Context, execID theirID, afterID int64, limit int) ([]theirEnvelope, error)
		Channel(execID theirID) string
	}
)

var (
	_ theirNotificationSystem = (*compozy.NotificationSystem[theirMessage, theirMetrics])(nil)
	_ theirPublisher          = (*compozy.StreamPublisher[theirID, theirEvent, theirEnvelope])(nil)
)

// newsroom is a publisher and a hub on embedded Redis.
type newsroom struct {
	client    *redis.Client
	publisher *notifier.BackgroundPublisher
	hub       *notifier.Hub
}

func newNewsroom(t *testing.T) newsroom {
	t.Helper()
	return newNewsroomOn(t, miniredis.RunT(t))
}

func newNewsroomOn(t *testing.T, server *miniredis.Miniredis) newsroom {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	log := slog.New(slog.DiscardHandler)
	publisher, err := notifier.NewPublisher(client, notifier.PublisherOptions{Logger: log, Registerer: prometheus.NewRegistry()})
	must(t, err)
	t.Cleanup(func() { _ = publisher.Close(context.Background()) })
	hub, err := notifier.NewSubscriber(client, notifier.SubscriberOptions{Logger: log, Registerer: prometheus.NewRegistry()})
	must(t, err)
	t.Cleanup(func() { _ = hub.Close() })
	return newsroom{client, publisher, hub}
}

func (n newsroom) notifications(t *testing.T) theirNotificationSystem {
	t.Helper()
	system := compozy.NewNotificationSystem(n.client, n.publisher, n.hub, compozy.NotificationOptions[theirMessage, theirMetrics]{
		Message: func(m compozy.Message) theirMessage { return theirMessage(m) },
		Metrics: func(m compozy.NotificationMetrics) theirMetrics { return theirMetrics(m) },
		Logger:  slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = system.Close() })
	return system
}

func message(t *testing.T, messages <-chan theirMessage) (channel string, ev compozy.WorkflowEvent) {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatal("the subscription ended")
		}
		must(t, json.Unmarshal(m.Payload, &ev))
		return m.Channel, ev
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is heard")
		return "", ev
	}
}

func TestNotificationSystem_tells_what_is_published(t *testing.T) {
	t.Parallel()
	room := newNewsroom(t)
	one, other := room.notifications(t), room.notifications(t)
	ctx := t.Context()
	heard := make(map[string]<-chan theirMessage)
	for name, subscribe := range map[string]func() (<-chan theirMessage, error){
		"the workflow":  func() (<-chan theirMessage, error) { return other.SubscribeToWorkflow(ctx, "order 1") },
		"the task":      func() (<-chan theirMessage, error) { return other.SubscribeToTask(ctx, "pay") },
		"all workflows": func() (<-chan theirMessage, error) { return other.SubscribeToAllWorkflows(ctx) },
		"all tasks":     func() (<-chan theirMessage, error) { return other.SubscribeToAllTasks(ctx) },
		"both":          func() (<-chan theirMessage, error) { return other.Subscribe(ctx, "workflow:order 1", "other") },
	} {
		messages, err := subscribe()
		must(t, err)
		heard[name] = messages
	}
	if m := other.GetMetrics(); m.ActiveChannels != 5 {
		t.Errorf("there are %d subscriptions; want 5", m.ActiveChannels)
	}
	must(t, one.PublishTaskEvent(ctx, "pay", "order 1", "task_started", "running", map[string]any{"n": 1}))
	for name, want := range map[string]string{
		"the workflow": "workflow:order 1", "all workflows": "workflow:order 1", "both": "workflow:order 1",
		"the task": "task:pay", "all tasks": "task:pay",
	} {
		channel, ev := message(t, heard[name])
		if channel != want || ev.TaskID != "pay" || ev.WorkflowID != "order 1" || ev.Event != "task_started" || ev.Status != "running" || ev.Data["n"] != 1.0 {
			t.Errorf("%s hears %+v on %q", name, ev, channel)
		}
	}
	must(t, one.Publish(ctx, "other", map[string]string{"event": "hello"}))
	if channel, ev := message(t, heard["both"]); channel != "other" || ev.Event != "hello" {
		t.Errorf("it hears %+v on %q", ev, channel)
	}
	// The plugin's own.
	must(t, room.publisher.Publish(notifier.Event{WorkflowID: "order 1", RunID: "r", TaskID: "pay", Attempt: 2, Status: notifier.StatusFailed, Reason: "no money"}))
	if _, ev := message(t, heard["the workflow"]); ev.Event != "status" || ev.Status != "FAILED" || ev.Data["reason"] != "no money" || ev.Data["attempt"] != 2.0 || ev.TaskID != "pay" {
		t.Errorf("it hears %+v", ev)
	}
	if m := one.GetMetrics(); m.MessagesPublished != 3 || m.PublishErrors != 0 || m.AverageLatency <= 0 {
		t.Errorf("its metrics are %+v", m)
	}
	if err := one.Publish(ctx, "x", func() {}); err == nil || !strings.HasPrefix(err.Error(), "failed to marshal message: ") || one.GetMetrics().PublishErrors != 1 {
		t.Errorf("what is no JSON gives %v", err)
	}
	for name, subscribe := range map[string]func() error{
		"at least one channel must be specified": func() error { _, err := one.Subscribe(ctx); return err },
		"at least one pattern must be specified": func() error { _, err := one.SubscribePattern(ctx); return err },
	} {
		if err := subscribe(); err == nil || err.Error() != name {
			t.Errorf("it says %v; want %q", err, name)
		}
	}
}

// Channels of workflows are the plugin's, by whatever pattern they are asked for.
func TestNotificationSystem_hears_workflows_by_any_pattern(t *testing.T) {
	t.Parallel()
	system := newNewsroom(t).notifications(t)
	ctx := t.Context()
	heard := make(map[string]<-chan theirMessage)
	for _, pattern := range []string{"workflow:order-*", "[vw]*", "task:p*"} {
		messages, err := system.SubscribePattern(ctx, pattern)
		must(t, err)
		heard[pattern] = messages
	}
	must(t, system.PublishWorkflowEvent(ctx, "other", "started", "running", nil))
	must(t, system.PublishTaskEvent(ctx, "pay", "", "task_started", "running", nil))
	must(t, system.PublishWorkflowEvent(ctx, "order-1", "started", "running", nil))
	for pattern, want := range map[string][]string{
		"workflow:order-*": {"workflow:order-1"}, "[vw]*": {"workflow:other", "workflow:order-1"}, "task:p*": {"task:pay"},
	} {
		var got []string
		for len(got) < len(want) {
			channel, ev := message(t, heard[pattern])
			if ev.Event == "" {
				t.Errorf("%s hears %+v on %q", pattern, ev, channel)
			}
			got = append(got, channel)
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s hears %q; want %q", pattern, got, want)
		}
	}
	if _, err := system.SubscribePattern(ctx, "workflow:[a"); err == nil {
		t.Error("what is no pattern is listened to")
	}
}

// A task's event reaches the log of its workflow whatever becomes of the message on its
// own channel.
func TestNotificationSystem_keeps_a_tasks_event_in_an_outage(t *testing.T) {
	t.Parallel()
	server := mini.Start(t)
	room := newNewsroomOn(t, server)
	system := room.notifications(t)
	server.Close()
	if err := system.PublishTaskEvent(t.Context(), "pay", "order", "task_started", "running", nil); err == nil {
		t.Error("nobody says that the message is lost")
	}
	mini.Restart(t, server)
	must(t, room.publisher.Flush(t.Context()))
	if events, err := room.hub.Read(t.Context(), "order", 0, 0); err != nil || len(events) != 1 {
		t.Errorf("the log has %d events, %v", len(events), err)
	}
}

func TestNotificationSystem_ends(t *testing.T) {
	t.Parallel()
	room := newNewsroom(t)
	system := room.notifications(t)
	ctx, cancel := context.WithCancel(t.Context())
	first, err := system.Subscribe(ctx, "a", "workflow:b")
	must(t, err)
	second, err := system.SubscribeToAllWorkflows(t.Context())
	must(t, err)
	cancel()
	for range first {
	}
	must(t, system.Close())
	for range second {
	}
	must(t, system.Close())
	if _, err := system.Subscribe(t.Context(), "a"); err == nil {
		t.Error("a closed one subscribes")
	}
	must(t, room.client.Ping(t.Context()).Err()) // it is the host's
}

func TestStreamPublisher_replays_what_was_published(t *testing.T) {
	t.Parallel()
	room := newNewsroom(t)
	var p theirPublisher = compozy.NewStreamPublisher(room.publisher, room.hub, compozy.StreamOptions[theirID, theirEvent, theirEnvelope]{
		Event:    func(e theirEvent) (string, any) { return e.Type, e.Data },
		Envelope: func(e compozy.Envelope[theirID]) theirEnvelope { return theirEnvelope(e) },
	})
	var last int64
	for n := range 3 {
		e, err := p.Publish(t.Context(), "exec", theirEvent{"llm_chunk", map[string]int{"n": n}})
		must(t, err)
		if e.ID <= last || e.ExecID != "exec" || e.Type != "llm_chunk" || string(e.Data) != fmt.Sprintf(`{"n":%d}`, n) {
			t.Errorf("it gives %+v after %d", e, last)
		}
		last = e.ID
	}
	must(t, room.publisher.Publish(notifier.Event{WorkflowID: "exec", Status: notifier.StatusSuccess, Final: true}))
	must(t, room.publisher.Flush(t.Context()))
	all, err := p.Replay(t.Context(), "exec", last-1, 0)
	must(t, err)
	if len(all) != 2 || all[0].ID != last || string(all[0].Data) != `{"n":2}` || all[1].Type != "status" || !strings.Contains(string(all[1].Data), `"SUCCESS"`) {
		t.Errorf("it replays %+v", all)
	}
	if some, err := p.Replay(t.Context(), "exec", 0, 2); err != nil || len(some) != 2 {
		t.Errorf("of two it gives %d, %v", len(some), err)
	}
	if got := p.Channel("exec 1"); got != "workflow:exec%201" {
		t.Errorf("the channel is %q", got)
	}
	for name, e := range map[string]theirEvent{"streaming: event type is required": {}, "streaming: marshal payload": {"x", func() {}}} {
		if _, err := p.Publish(t.Context(), "exec", e); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("it says %v; want %q", err, name)
		}
	}
	if _, err := p.Publish(t.Context(), "", theirEvent{"x", 1}); err == nil || err.Error() != "streaming: exec id is required" {
		t.Errorf("without an id it says %v", err)
	}
}
