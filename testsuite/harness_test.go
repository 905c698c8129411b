package testsuite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }

type chargeConfig struct {
	Amount int `json:"amount"`
}

func charge(ctx context.Context) (int, error) {
	config, err := activities.Config[chargeConfig](ctx)
	if err != nil {
		return 0, err
	}
	return config.Amount, nil
}

func checkout(ctx workflow.Context, ref redisstate.Ref) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var amount int
	err := workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), charge).Get(ctx, &amount)
	return amount, err
}

// The test that the package comment shows.
func TestAWorkflowOfOnesOwn(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivity(charge)
	refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
	env.ExecuteWorkflow(checkout, refs[0])
	var amount int
	if err := env.GetWorkflowResult(&amount); err != nil || amount != 42 {
		t.Fatalf("amount is %d, %v", amount, err)
	}
	events := env.Events(t.Context(), "default-test-workflow-id", notifier.Event.EndsWorkflow)
	if last := events[len(events)-1]; last.Status != notifier.StatusSuccess {
		t.Errorf("the workflow ended with %s", last.Status)
	}
}

func TestEnvironmentsDoNotShareTheirRedis(t *testing.T) {
	t.Parallel()
	a := testsuite.NewActivityEnvironment(t, testsuite.Options{})
	b := testsuite.NewActivityEnvironment(t, testsuite.Options{})
	a.SaveConfigs(redisstate.Entry{ID: "only-in-a", Value: 1})
	if _, err := b.Store().Get(t.Context(), redisstate.ID("only-in-a")); err == nil {
		t.Error("the config of one environment is in another")
	}
}

// Code that does not listen is told to be late; the client of Temporal's environment would
// end the process if it were asked to say so.
func TestActivityThatOverrunsItsTimeFailsItsTestOnly(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	released := make(chan struct{})
	env.RegisterActivityWithOptions(func(context.Context) error {
		<-released
		return nil
	}, activity.RegisterOptions{Name: "late"})
	time.AfterFunc(700*time.Millisecond, func() { close(released) }) // more than its time and the grace
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: 100 * time.Millisecond, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		return workflow.ExecuteActivity(interceptors.WithPolicy(ctx, interceptors.Critical), "late").Get(ctx, nil)
	})
	if app, ok := errors.AsType[*temporal.ApplicationError](env.GetWorkflowError()); !ok || app.Type() != interceptors.TimedOut {
		t.Errorf("got %v; want %s", env.GetWorkflowError(), interceptors.TimedOut)
	}
}
