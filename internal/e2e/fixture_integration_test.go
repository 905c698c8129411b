//go:build integration

package e2e

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// bound ends a test that hangs.
const bound = 3 * time.Minute

// quiet drops the SDK's log: tests look at results.
var quiet = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))

// stage is one process' plugin and client on real servers.
type stage struct {
	plugin *worker.Plugin
	client client.Client
	queue  string
}

// newStage connects a plugin and a client, by a connection that has some more options. It
// ends with the test.
func newStage(t *testing.T, redisURL string, change func(*worker.Options), dial ...grpc.DialOption) *stage {
	t.Helper()
	o := worker.Options{
		Redis:       redisstate.Options{URL: redisURL},
		Environment: func(string) (string, bool) { return "", false },
		// As long as a busy machine takes to send what an outage held up.
		FlushTimeout: 30 * time.Second,

		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&o)
	}
	plugin, err := worker.NewPlugin(o)
	if err != nil {
		t.Fatal(err)
	}
	connection := devserver.Connection()
	connection.DialOptions = dial
	c, err := client.Dial(client.Options{HostPort: temporalAddr, Logger: quiet, ConnectionOptions: connection, Plugins: []client.Plugin{plugin}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := plugin.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &stage{plugin: plugin, client: c, queue: "e2e-" + uuid.NewString()}
}

// work starts a worker; register adds what it runs. It stops with the test.
func (s *stage) work(t *testing.T, register func(sdkworker.Registry)) sdkworker.Worker {
	t.Helper()
	return s.workWith(t, sdkworker.Options{}, register)
}

func (s *stage) workWith(t *testing.T, o sdkworker.Options, register func(sdkworker.Registry)) sdkworker.Worker {
	t.Helper()
	w := newWorker(s.client, s.queue, o)
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// newWorker makes a worker that knows that a busy machine is no deadlock: the SDK gives
// a workflow task up that takes a second, and goes on beside it.
func newWorker(c client.Client, queue string, o sdkworker.Options) sdkworker.Worker {
	o.DeadlockDetectionTimeout = 10 * time.Second
	return sdkworker.New(c, queue, o)
}

func newID() string { return "e2e-" + uuid.NewString() }

// start starts a workflow under a fresh id.
func (s *stage) start(ctx context.Context, t *testing.T, workflow any, args ...any) client.WorkflowRun {
	t.Helper()
	return s.startAs(ctx, t, newID(), workflow, args...)
}

func (s *stage) startAs(ctx context.Context, t *testing.T, id string, workflow any, args ...any) client.WorkflowRun {
	t.Helper()
	run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, workflow, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.recall(t, run)
		}
	})
	return run
}

// recall tells what Temporal knows of a run, for a test that failed.
func (s *stage) recall(t *testing.T, run client.WorkflowRun) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	t.Logf("%s %s, as Temporal tells:", run.GetID(), run.GetRunID())
	events := s.client.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for n := 0; n < 60 && events.HasNext(); n++ {
		event, err := events.Next()
		if err != nil {
			t.Log(err)
			break
		}
		t.Logf("%s %3d %v", event.GetEventTime().AsTime().Format("15:04:05.000"), event.GetEventId(), event.GetEventType())
	}
	now, err := s.client.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
	if err != nil {
		t.Log(err)
		return
	}
	for _, pending := range now.GetPendingActivities() {
		t.Logf("pending: %v", pending)
	}
	t.Logf("pending: %v", now.GetPendingWorkflowTask())
	t.Logf("the end of the server's log:\n%s", temporalLog())
}

// save saves configs as a host does.
func (s *stage) save(ctx context.Context, t *testing.T, entries ...redisstate.Entry) []redisstate.Ref {
	t.Helper()
	store, err := s.plugin.Store(ctx)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := store.Set(ctx, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// watch subscribes to a workflow from the start of its log; the returned
// function collects its events up to its end.
func (s *stage) watch(ctx context.Context, t *testing.T, workflowID string) (collect func() []notifier.Event) {
	t.Helper()
	hub, err := s.plugin.Subscriber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := hub.Subscribe(ctx, workflowID, notifier.FromStart())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	return func() []notifier.Event {
		t.Helper()
		var events []notifier.Event
		for {
			select {
			case ev, ok := <-sub.Events():
				if !ok {
					t.Fatalf("subscription ended: %v", sub.Err())
				}
				events = append(events, ev)
				if ev.EndsWorkflow() {
					return events
				}
			case <-ctx.Done():
				t.Fatalf("%v; events so far: %v", ctx.Err(), events)
			}
		}
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}
