package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
)

func checkout(ctx workflow.Context, ref redisstate.Ref) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 2, InitialInterval: time.Millisecond},
	})
	ctx = interceptors.WithTask(interceptors.WithConfig(ctx, ref), "charge-card")
	var amount int
	err := workflow.ExecuteActivity(ctx, "charge").Get(ctx, &amount)
	return amount, err
}

// workflowID is the id that Temporal's test environment gives.
const workflowID = "default-test-workflow-id"

func ended(ev notifier.Event) bool { return ev.EndsWorkflow() }

// told is what a watcher would tell of the events, one line each.
func told(events []notifier.Event) []string {
	var lines []string
	for _, ev := range events {
		name := ev.TaskID
		if name == "" {
			name = "workflow"
		}
		lines = append(lines, fmt.Sprintf("%s %s attempt=%d final=%v", name, ev.Status, ev.Attempt, ev.Final))
	}
	return lines
}

func TestWorkflowTellsEveryTransition(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		activity func(context.Context) (int, error)
		policy   interceptors.Policy
		want     []string
	}{
		"of a success": {
			activity: charge,
			want: []string{
				"workflow RUNNING attempt=0 final=false",
				"charge-card PENDING attempt=0 final=false",
				"charge-card RUNNING attempt=1 final=false",
				"charge-card SUCCESS attempt=1 final=false",
				"charge-card SUCCESS attempt=0 final=true",
				"workflow SUCCESS attempt=0 final=true",
			},
		},
		"of a critical activity": {
			activity: charge,
			policy:   interceptors.Critical,
			want: []string{
				"workflow RUNNING attempt=0 final=false",
				"charge-card PENDING attempt=0 final=false",
				"charge-card WAITING attempt=1 final=false",
				"charge-card RUNNING attempt=1 final=false",
				"charge-card SUCCESS attempt=1 final=false",
				"charge-card SUCCESS attempt=0 final=true",
				"workflow SUCCESS attempt=0 final=true",
			},
		},
		"of attempts that fail": {
			activity: func(context.Context) (int, error) { return 0, errors.New("no money") },
			want: []string{
				"workflow RUNNING attempt=0 final=false",
				"charge-card PENDING attempt=0 final=false",
				"charge-card RUNNING attempt=1 final=false",
				"charge-card FAILED attempt=1 final=false",
				"charge-card RUNNING attempt=2 final=false",
				"charge-card FAILED attempt=2 final=false",
				"charge-card FAILED attempt=0 final=true",
				"workflow FAILED attempt=0 final=true",
			},
		},
		"and nothing of an activity whose policy says so": {
			activity: charge,
			policy:   interceptors.Policy{Status: interceptors.Off},
			want: []string{
				"workflow RUNNING attempt=0 final=false",
				"workflow SUCCESS attempt=0 final=true",
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
			env.RegisterWorkflow(checkout)
			env.RegisterActivityWithOptions(c.activity, activity.RegisterOptions{Name: "charge"})
			refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
			env.ExecuteWorkflow(func(ctx workflow.Context, ref redisstate.Ref) (int, error) {
				return checkout(interceptors.WithPolicy(ctx, c.policy), ref)
			}, refs[0])
			if !env.IsWorkflowCompleted() {
				t.Fatal("the workflow did not complete")
			}
			if got := told(env.Events(t.Context(), workflowID, ended)); !slices.Equal(got, c.want) {
				t.Errorf("events:\n%v\nwant:\n%v", got, c.want)
			}
		})
	}
}

func TestCallsOfOneRunHaveTaskKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "step"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		for range 2 {
			if err := workflow.ExecuteActivity(ctx, "step").Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	})
	seen := map[string]int{}
	for _, ev := range env.Events(t.Context(), workflowID, ended) {
		if ev.TaskID != "" {
			seen[ev.TaskKey()]++
		}
	}
	// PENDING, RUNNING, SUCCESS, final SUCCESS, of each of two calls
	if len(seen) != 2 {
		t.Fatalf("task keys: %v, want two", seen)
	}
	for key, n := range seen {
		if n != 4 {
			t.Errorf("%s has %d events, want 4", key, n)
		}
	}
}

func TestWorkflowPublishesAResultThatArrivesWithItsEnd(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "step"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		future := workflow.ExecuteActivity(ctx, "step")
		return workflow.Await(ctx, future.IsReady) // the main coroutine runs before the observing one
	})
	events := env.Events(t.Context(), workflowID, ended)
	if !slices.Contains(told(events), "step SUCCESS attempt=0 final=true") {
		t.Errorf("the observed result is missing: %v", told(events))
	}
}

func TestRegisteredActivities(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	refs := env.SaveConfigs(
		redisstate.Entry{ID: "a", Value: chargeConfig{Amount: 1}},
		redisstate.Entry{ID: "b", Value: chargeConfig{Amount: 2}},
	)
	env.ExecuteWorkflow(func(ctx workflow.Context) ([]redisstate.Ref, error) {
		pinned, err := activities.PinConfigs(ctx, "b", "a")
		if err != nil {
			return nil, err
		}
		n, err := activities.DeleteConfigs(ctx, "a", "b", "never-there")
		if err == nil && n != 2 {
			err = fmt.Errorf("deleted %d configs, want 2", n)
		}
		return pinned, err
	})
	var pinned []redisstate.Ref
	if err := env.GetWorkflowResult(&pinned); err != nil {
		t.Fatal(err)
	}
	if want := []redisstate.Ref{refs[1], refs[0]}; !slices.Equal(pinned, want) {
		t.Errorf("pinned %v, want %v", pinned, want)
	}
	if _, err := env.Store().Get(t.Context(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrNotFound) {
		t.Errorf("the deleted config gave %v", err)
	}
}

func TestProgressIsAnEventOfTheTask(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivityWithOptions(func(ctx context.Context) error {
		return activities.Progress(ctx, map[string]int{"done": 7})
	}, activity.RegisterOptions{Name: "step"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		return workflow.ExecuteActivity(interceptors.WithTask(ctx, "named"), "step").Get(ctx, nil)
	})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	for _, ev := range env.Events(t.Context(), workflowID, ended) {
		if ev.Kind == notifier.KindProgress && ev.TaskID == "named" && string(ev.Data) == `{"done":7}` && ev.Call == 1 {
			return
		}
	}
	t.Error("no progress event of the task")
}
