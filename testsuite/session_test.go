package testsuite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
)

// reserve leaves a value in the run's session, where pay finds it.
func reserve(ctx context.Context) (string, error) {
	session, err := activities.Session(ctx)
	if err != nil {
		return "", err
	}
	run := activity.GetInfo(ctx).WorkflowExecution
	return redisstate.ExecutionID(run.ID, run.RunID), session.Set(ctx, "seat", 12)
}

func pay(ctx context.Context) (int, error) {
	session, err := activities.Session(ctx)
	if err != nil {
		return 0, err
	}
	return redisstate.SessionGet[int](ctx, session, "seat")
}

func book(ctx workflow.Context) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	if err := workflow.ExecuteActivity(ctx, reserve).Get(ctx, nil); err != nil {
		return 0, err
	}
	var seat int
	err := workflow.ExecuteActivity(ctx, pay).Get(ctx, &seat)
	return seat, err
}

func TestActivitiesOfARunShareItsSession(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivity(reserve)
	env.RegisterActivity(pay)
	env.ExecuteWorkflow(book)
	var seat int
	if err := env.GetWorkflowResult(&seat); err != nil || seat != 12 {
		t.Fatalf("seat is %d, %v", seat, err)
	}
	const workflowID, runID = "default-test-workflow-id", "default-test-run-id"
	if seat, err := redisstate.SessionGet[int](t.Context(), env.Session(workflowID, runID), "seat"); err != nil || seat != 12 {
		t.Errorf("the test sees %d, %v", seat, err)
	}
	if _, err := env.Session(workflowID, "another-run").Get(t.Context(), "seat"); !errors.Is(err, redisstate.ErrNotFound) {
		t.Errorf("another run sees it: %v", err)
	}
}

func TestSessionOfAnActivityIsThatOfItsRun(t *testing.T) {
	t.Parallel()
	env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
	env.RegisterActivity(reserve)
	result, err := env.ExecuteActivity(reserve)
	if err != nil {
		t.Fatal(err)
	}
	var executionID string
	if err := result.Get(&executionID); err != nil {
		t.Fatal(err)
	}
	sessions, err := env.Plugin().Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := sessions.Open(executionID)
	if err != nil {
		t.Fatal(err)
	}
	if seat, err := redisstate.SessionGet[int](t.Context(), session, "seat"); err != nil || seat != 12 {
		t.Errorf("seat is %d, %v", seat, err)
	}
}

func TestSessionNeedsAnActivity(t *testing.T) {
	t.Parallel()
	if _, err := activities.Session(t.Context()); !errors.Is(err, activities.ErrNoPlugin) {
		t.Errorf("got %v", err)
	}
	store := testsuite.NewActivityEnvironment(t, testsuite.Options{}).Store()
	if _, err := activities.Session(redisstate.NewContext(t.Context(), store)); !errors.Is(err, activities.ErrNoSession) {
		t.Errorf("got %v", err)
	}
}

func TestCountersOfAnEnvironmentAreThePlugins(t *testing.T) {
	t.Parallel()
	env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
	if _, err := env.Counters().Incr(t.Context(), "charged", 2); err != nil {
		t.Fatal(err)
	}
	counters, err := env.Plugin().Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if now, err := counters.Snapshot(t.Context()); err != nil || now.Counters["charged"] != 2 {
		t.Errorf("got %v, %v", now, err)
	}
}
