//go:build integration

package e2e

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// everyWord has a task for each way to go.
func everyWord(ctx workflow.Context) error {
	once := workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}}
	task := func(ctx workflow.Context, name string, o workflow.ActivityOptions) workflow.Future {
		return workflow.ExecuteActivity(interceptors.WithTask(workflow.WithActivityOptions(ctx, o), name), "do", name)
	}
	if err := task(interceptors.WithPolicy(ctx, interceptors.Critical), "locked", once).Get(ctx, nil); err != nil {
		return err
	}
	again := once
	again.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 3, InitialInterval: 10 * time.Millisecond}
	if err := task(ctx, "paused", again).Get(ctx, nil); err != nil {
		return err
	}
	_ = task(ctx, "failing", once).Get(ctx, nil)
	brief := once
	brief.StartToCloseTimeout = 2 * time.Second
	_ = task(ctx, "slow", brief).Get(ctx, nil)
	canceling, cancel := workflow.WithCancel(ctx)
	waits := once
	waits.HeartbeatTimeout, waits.WaitForCancellation = 30*time.Second, true
	canceled := task(canceling, "unwanted", waits)
	workflow.GetSignalChannel(ctx, "cancel it").Receive(ctx, nil)
	cancel()
	_ = canceled.Get(ctx, nil)
	return nil
}

// words are the statuses of each task, with a mark if they are final. All who tell of a
// task mean the same call.
func words(t *testing.T, events []notifier.Event) map[string][]string {
	t.Helper()
	got, key := make(map[string][]string), make(map[string]string)
	for _, ev := range events {
		word := string(ev.Status)
		if ev.Final {
			word += "!"
		}
		if got[ev.TaskID] = append(got[ev.TaskID], word); ev.OfWorkflow() && ev.Status == notifier.StatusPending {
			slices.Sort(got[ev.TaskID]) // the client says it when it hears from the server, and then a worker may be at it
		}
		if known, ok := key[ev.TaskID]; ok && known != ev.TaskKey() {
			t.Errorf("of %q it is told as %q and as %q", ev.TaskID, known, ev.TaskKey())
		}
		key[ev.TaskID] = ev.TaskKey()
	}
	return got
}

func TestEveryStatusComesInOrder(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	var attempts atomic.Int32
	entered := make(chan struct{})
	s.workWith(t, sdkworker.Options{MaxHeartbeatThrottleInterval: 500 * time.Millisecond}, func(r sdkworker.Registry) { // by heartbeats a cancellation is heard
		r.RegisterWorkflow(everyWord)
		r.RegisterActivityWithOptions(func(ctx context.Context, name string) error {
			switch name {
			case "paused":
				if attempts.Add(1) == 1 {
					return fmt.Errorf("read: %w", redisstate.ErrUnavailable)
				}
			case "failing":
				return temporal.NewApplicationError("as planned", "Planned")
			case "slow":
				<-ctx.Done()
				return ctx.Err()
			case "unwanted":
				close(entered)
				for tick := time.NewTicker(100 * time.Millisecond); ; {
					select {
					case <-ctx.Done():
						tick.Stop()
						return ctx.Err()
					case <-tick.C:
						activity.RecordHeartbeat(ctx)
					}
				}
			}
			return nil
		}, activity.RegisterOptions{Name: "do"})
	})
	id := newID()
	collect := s.watch(ctx, t, id)
	run := s.startAs(ctx, t, id, everyWord)
	select {
	case <-entered:
	case <-ctx.Done():
		t.Fatal("the last task does not begin")
	}
	if err := s.client.SignalWorkflow(ctx, id, "", "cancel it", nil); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	events := collect()
	for _, ev := range events {
		if ev.Status == notifier.StatusWaiting && ev.Reason != "lock" {
			t.Errorf("it waits because of %q", ev.Reason)
		}
	}
	got := words(t, events)
	want := map[string][]string{
		"":         {"PENDING", "RUNNING", "SUCCESS!"},
		"locked":   {"PENDING", "WAITING", "RUNNING", "SUCCESS", "SUCCESS!"},
		"paused":   {"PENDING", "RUNNING", "PAUSED", "RUNNING", "SUCCESS", "SUCCESS!"},
		"failing":  {"PENDING", "RUNNING", "FAILED", "FAILED!"},
		"slow":     {"PENDING", "RUNNING", "TIMED_OUT", "TIMED_OUT!"},
		"unwanted": {"PENDING", "RUNNING", "CANCELED", "CANCELED!"},
	}
	for task, words := range want {
		if task == "slow" { // the server's time-out and the worker's come in either order
			if len(got[task]) < 3 || !slices.Contains(got[task], "TIMED_OUT!") || !slices.Equal(got[task][:2], words[:2]) {
				t.Errorf("%q went %v", task, got[task])
			}
			continue
		}
		if !slices.Equal(got[task], words) {
			t.Errorf("%q went %v; want %v", task, got[task], words)
		}
	}
}

// family is a workflow that has a child, takes a signal and answers an update, each of
// which has an activity of its own.
func family(ctx workflow.Context, childID string) (string, error) {
	options := workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second}
	ctx = workflow.WithActivityOptions(ctx, options)
	err := workflow.SetUpdateHandler(ctx, "ask", func(ctx workflow.Context, what string) (answer string, err error) {
		ctx = workflow.WithActivityOptions(ctx, options)
		err = workflow.ExecuteActivity(interceptors.WithTask(ctx, "asked"), "echo", what).Get(ctx, &answer)
		return answer, err
	})
	if err != nil {
		return "", err
	}
	var said string
	workflow.GetSignalChannel(ctx, "say").Receive(ctx, &said)
	var heard, child string
	if err := workflow.ExecuteActivity(interceptors.WithTask(ctx, "said"), "echo", said).Get(ctx, &heard); err != nil {
		return "", err
	}
	children := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: childID})
	if err := workflow.ExecuteChildWorkflow(children, "member", "child").Get(ctx, &child); err != nil {
		return "", err
	}
	return heard + " " + child, nil
}

func member(ctx workflow.Context, name string) (said string, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	err = workflow.ExecuteActivity(interceptors.WithTask(ctx, "of the child"), "echo", name).Get(ctx, &said)
	return said, err
}

func TestChildrenSignalsAndUpdatesHaveTheirEvents(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(family)
		r.RegisterWorkflow(member)
		r.RegisterActivityWithOptions(func(_ context.Context, what string) (string, error) { return what, nil }, activity.RegisterOptions{Name: "echo"})
	})
	id, childID := newID(), newID()
	parent, child := s.watch(ctx, t, id), s.watch(ctx, t, childID)
	run := s.startAs(ctx, t, id, family, childID)
	update, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: "ask", Args: []any{"why"}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
	var answer, result string
	if err := update.Get(ctx, &answer); err != nil || answer != "why" {
		t.Fatalf("the update gives %q, %v", answer, err)
	}
	if err := s.client.SignalWorkflow(ctx, id, "", "say", "hello"); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, &result); err != nil || result != "hello child" {
		t.Fatalf("the workflow gives %q, %v", result, err)
	}
	task := []string{"PENDING", "RUNNING", "SUCCESS", "SUCCESS!"}
	for name, test := range map[string]struct {
		events []notifier.Event
		want   map[string][]string
	}{
		"parent": {parent(), map[string][]string{"": {"PENDING", "RUNNING", "SUCCESS!"}, "asked": task, "said": task}},
		"child":  {child(), map[string][]string{"": {"RUNNING", "SUCCESS!"}, "of the child": task}}, // no client started it
	} {
		if got := words(t, test.events); !reflect.DeepEqual(got, test.want) {
			t.Errorf("the %s's tasks went %v; want %v", name, got, test.want)
		}
	}
}
