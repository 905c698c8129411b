//go:build integration

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/worker"
)

// watchtower is a subscriber that asks Temporal soon when events stop, and a client
// without the plugin, of which nothing comes to the log.
type watchtower struct {
	*stage
	hub    *notifier.Hub
	plain  client.Client
	source *worker.StatusSource
}

func newWatchtower(t *testing.T) *watchtower {
	t.Helper()
	s := newStage(t, redistest.Start(t).URL(), nil)
	redis, _, err := s.plugin.Redis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hub, err := notifier.NewSubscriber(redis, notifier.SubscriberOptions{
		Namespace: keys.NamespaceFor("default"), StatusEvery: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	plain, err := client.Dial(client.Options{HostPort: temporalAddr, Logger: quiet, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Close)
	return &watchtower{stage: s, hub: hub, plain: plain, source: worker.NewStatusSource(plain, nil)}
}

// sees waits until the source has said something of a task ("": of the workflow).
func (w *watchtower) sees(ctx context.Context, t *testing.T, events <-chan notifier.Event, task string, want notifier.Status) notifier.Event {
	t.Helper()
	for {
		select {
		case ev := <-events:
			if ev.Origin == notifier.OriginSource && ev.TaskID == task && ev.Status == want {
				return ev
			}
		case <-ctx.Done():
			t.Fatalf("it never hears %q %s", task, want)
		}
	}
}

func (w *watchtower) subscribe(ctx context.Context, t *testing.T, id string) <-chan notifier.Event {
	t.Helper()
	sub, err := w.hub.Subscribe(ctx, id, notifier.WithStatusSource(w.source))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	return sub.Events()
}

// paces runs a step that works, and one that does what it is told to.
func paces(ctx workflow.Context, then string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Hour},
	})
	if err := workflow.ExecuteActivity(interceptors.WithTask(ctx, "first"), "pace", "").Get(ctx, nil); err != nil {
		return err
	}
	if then == "end" {
		return nil
	}
	return workflow.ExecuteActivity(interceptors.WithTask(ctx, "second"), "pace", then).Get(ctx, nil)
}

func pace(ctx context.Context, then string) error {
	switch then {
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "":
		return nil
	}
	return temporal.NewApplicationError("as planned", then)
}

func registerPaces(r sdkworker.Registry) {
	r.RegisterWorkflow(paces)
	r.RegisterActivityWithOptions(pace, activity.RegisterOptions{Name: "pace"})
}

func TestStatusSourceTellsWhatNoWorkerPublished(t *testing.T) {
	t.Parallel()

	t.Run("a termination", func(t *testing.T) {
		t.Parallel()
		ctx := bounded(t)
		w := newWatchtower(t)
		run := w.start(ctx, t, paces, "end") // no worker
		events := w.subscribe(ctx, t, run.GetID())
		if err := w.plain.TerminateWorkflow(ctx, run.GetID(), "", "enough"); err != nil {
			t.Fatal(err)
		}
		if ev := w.sees(ctx, t, events, "", notifier.StatusFailed); !ev.EndsWorkflow() || ev.Reason != "terminated: enough" || ev.RunID != run.GetRunID() {
			t.Errorf("it hears %+v", ev)
		}
	})

	t.Run("a time-out of the workflow", func(t *testing.T) {
		t.Parallel()
		ctx := bounded(t)
		w := newWatchtower(t)
		id := newID()
		_, err := w.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: w.queue, WorkflowExecutionTimeout: time.Second}, paces, "end")
		if err != nil {
			t.Fatal(err)
		}
		if ev := w.sees(ctx, t, w.subscribe(ctx, t, id), "", notifier.StatusTimedOut); !ev.EndsWorkflow() {
			t.Errorf("it hears %+v", ev)
		}
	})

	t.Run("a run whose events were lost", func(t *testing.T) {
		t.Parallel()
		ctx := bounded(t)
		w := newWatchtower(t)
		lost := newStage(t, redistest.Start(t).URL(), nil) // publishes elsewhere
		lost.queue = w.queue
		lost.work(t, registerPaces)
		run := lost.start(ctx, t, paces, "end")
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
		events := w.subscribe(ctx, t, run.GetID())
		if ev := w.sees(ctx, t, events, "", notifier.StatusSuccess); !ev.EndsWorkflow() {
			t.Errorf("it hears %+v", ev)
		}
		if ev := w.sees(ctx, t, events, "first", notifier.StatusSuccess); !ev.Final || ev.Call != 1 || ev.ActivityType != "pace" {
			t.Errorf("it hears %+v", ev)
		}
	})

	// What the tasks do, as the events of the log have it.
	for then, want := range map[string]notifier.Event{
		"hang":                        {Status: notifier.StatusRunning},
		interceptors.RedisUnavailable: {Status: notifier.StatusPaused, Reason: "redis"},
		interceptors.LockContended:    {Status: notifier.StatusWaiting, Reason: "lock"},
		"OfTheirOwn":                  {Status: notifier.StatusFailed, Reason: "as planned"},
	} {
		t.Run("a task: "+then, func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			w := newWatchtower(t)
			lost := newStage(t, redistest.Start(t).URL(), nil)
			lost.queue = w.queue
			lost.work(t, registerPaces)
			run := lost.start(ctx, t, paces, then)
			ev := w.sees(ctx, t, w.subscribe(ctx, t, run.GetID()), "second", want.Status)
			if ev.Reason != want.Reason || ev.Final || ev.Attempt != 1 || ev.Call != 2 || ev.ActivityID == "" {
				t.Errorf("it hears %+v", ev)
			}
			if err := w.plain.TerminateWorkflow(ctx, run.GetID(), "", ""); err != nil {
				t.Fatal(err)
			}
		})
	}

	t.Run("nothing of what is not known", func(t *testing.T) {
		t.Parallel()
		w := newWatchtower(t)
		if states, err := w.source.States(bounded(t), newID()); err != nil || len(states) != 0 {
			t.Errorf("it says %s, %v", fmt.Sprint(states), err)
		}
	})
}
