package activities_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
)

// patientID is the id that Temporal's test environment gives a workflow.
const patientID = "default-test-workflow-id"

// longWait is longer than the default time to live.
const longWait = 5 * 24 * time.Hour

// keeper is a workflow environment whose Redis ages with the workflow's time.
type keeper struct {
	*testsuite.WorkflowEnvironment
	server *miniredis.Miniredis
	rounds int
	stored []redisstate.Ref
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{server: miniredis.RunT(t)}
	client := redis.NewClient(&redis.Options{Addr: k.server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	k.WorkflowEnvironment = testsuite.NewWorkflowEnvironment(t, testsuite.Options{Plugin: worker.Options{
		Redis:  redisstate.Options{Client: client, NearCacheBytes: -1},
		Logger: slog.New(slog.DiscardHandler),
	}})
	k.SetTestTimeout(time.Minute)
	k.RegisterActivityWithOptions(func(ctx context.Context) (int, error) {
		config, err := activities.Config[chargeConfig](ctx)
		if err != nil {
			return 0, err
		}
		return config.Amount, nil
	}, activity.RegisterOptions{Name: "charge"})
	for hour := range int(longWait / time.Hour) {
		k.RegisterDelayedCallback(func() { k.server.FastForward(time.Hour) }, time.Duration(hour+1)*time.Hour-time.Minute)
	}
	k.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == activities.ExtendConfigsName {
			k.rounds++
		}
	})
	k.stored = k.SaveConfigs(
		redisstate.Entry{ID: "charge", Workflow: patientID, Value: chargeConfig{Amount: 41}},
		redisstate.Entry{ID: "charge", Workflow: patientID, Value: chargeConfig{Amount: 42}},
	)
	return k
}

// patient waits for longer than configs live and then uses both of its refs.
func patient(keep bool) func(workflow.Context, []redisstate.Ref) (int, error) {
	return func(ctx workflow.Context, refs []redisstate.Ref) (int, error) {
		if keep {
			defer activities.KeepConfigs(ctx, 0)()
		}
		if err := workflow.Sleep(ctx, longWait-2*time.Hour); err != nil {
			return 0, err
		}
		total := 0
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		for _, ref := range refs {
			var amount int
			if err := workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), "charge").Get(ctx, &amount); err != nil {
				return 0, err
			}
			total += amount
		}
		return total, nil
	}
}

func TestKeepConfigs_keeps_a_waiting_workflows_configs(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.ExecuteWorkflow(patient(true), k.stored)
	var total int
	if err := k.GetWorkflowResult(&total); err != nil || total != 83 {
		t.Fatalf("total is %d, %v; want 83", total, err)
	}
	if want := int((longWait-2*time.Hour)/activities.DefaultKeepEvery) + 1; k.rounds != want {
		t.Errorf("extended %d times; want %d", k.rounds, want)
	}
}

func TestKeepConfigs_is_what_keeps_them(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.ExecuteWorkflow(patient(false), k.stored)
	app, ok := errors.AsType[*temporal.ApplicationError](k.GetWorkflowError())
	if !ok || app.Type() != interceptors.ConfigNotFound {
		t.Fatalf("got %v; want ConfigNotFound", k.GetWorkflowError())
	}
}

// noted is a Temporal logger that keeps warnings.
type noted struct {
	quiet
	warnings chan string
}

func (n noted) Warn(text string, fields ...any) {
	n.warnings <- fmt.Sprint(append([]any{text}, fields...)...)
}

func TestKeepConfigs_warns_when_nothing_is_saved_under_the_workflows_id(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]int{"": 2, "another": 2, patientID: 0} {
		t.Run("owner "+owner, func(t *testing.T) {
			t.Parallel()
			k := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
			k.SaveConfigs(redisstate.Entry{ID: "charge", Workflow: owner, Value: chargeConfig{Amount: 42}})
			log := noted{warnings: make(chan string, 10)}
			var suite sdktestsuite.WorkflowTestSuite
			suite.SetLogger(log)
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(sdkworker.Options{Plugins: []sdkworker.Plugin{k.Plugin()}})
			env.ExecuteWorkflow(func(ctx workflow.Context) error {
				defer activities.KeepConfigs(ctx, time.Hour)()
				return workflow.Sleep(ctx, 90*time.Minute)
			})
			if err := env.GetWorkflowError(); err != nil {
				t.Fatal(err)
			}
			close(log.warnings)
			told := 0
			for text := range log.warnings {
				if !strings.Contains(text, "redisstate.Entry.Workflow") {
					t.Errorf("it warns of %s", text)
				}
				told++
			}
			if told != want {
				t.Errorf("warned %d times; want %d", told, want)
			}
		})
	}
}

func TestKeepConfigs_ends(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(ctx workflow.Context) error{
		"when it is stopped": func(ctx workflow.Context) error {
			stop := activities.KeepConfigs(ctx, time.Hour)
			if err := workflow.Sleep(ctx, 90*time.Minute); err != nil {
				return err
			}
			stop()
			stop() // twice is fine
			return workflow.Sleep(ctx, 10*time.Hour)
		},
		"with its context": func(ctx workflow.Context) error {
			inner, cancel := workflow.WithCancel(ctx)
			activities.KeepConfigs(inner, time.Hour)
			if err := workflow.Sleep(ctx, 90*time.Minute); err != nil {
				return err
			}
			cancel()
			return workflow.Sleep(ctx, 10*time.Hour)
		},
		"with the run": func(ctx workflow.Context) error {
			activities.KeepConfigs(ctx, time.Hour)
			if err := workflow.Sleep(ctx, 90*time.Minute); err != nil {
				return err
			}
			return workflow.NewContinueAsNewError(ctx, "next")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			k.ExecuteWorkflow(run)
			var next *workflow.ContinueAsNewError
			if err := k.GetWorkflowError(); err != nil && !errors.As(err, &next) {
				t.Fatal(err)
			}
			if k.rounds != 2 {
				t.Errorf("extended %d times; want 2", k.rounds)
			}
		})
	}
}
