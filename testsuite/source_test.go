package testsuite_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
)

// chargesSource is a host that can make its configs again.
func chargesSource(loads *atomic.Int64) redisstate.Source {
	return redisstate.SourceFunc(func(context.Context, redisstate.Key) (redisstate.Entry, error) {
		loads.Add(1)
		return redisstate.Entry{Value: chargeConfig{Amount: 42}}, nil
	})
}

// chargeTwice charges, loses Redis' data and charges again.
func chargeTwice(ctx workflow.Context, ref redisstate.Ref) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2},
	})
	total := 0
	for i := range 2 {
		var amount int
		if err := workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), charge).Get(ctx, &amount); err != nil {
			return 0, err
		}
		total += amount
		if i == 0 {
			if err := workflow.ExecuteActivity(ctx, "flush").Get(ctx, nil); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func TestAFlushInMidRunIsSurvivedWithASource(t *testing.T) {
	t.Parallel()
	for name, sourced := range map[string]bool{"with": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var loads atomic.Int64
			options := redisstate.Options{NearCacheBytes: -1}
			if sourced {
				options.Source = chargesSource(&loads)
			}
			env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{Plugin: worker.Options{Redis: options}})
			env.RegisterActivity(charge)
			env.RegisterActivityWithOptions(func(context.Context) error { env.FlushRedis(); return nil }, activity.RegisterOptions{Name: "flush"})
			refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
			env.ExecuteWorkflow(chargeTwice, refs[0])
			var total int
			err := env.GetWorkflowResult(&total)
			if sourced && (err != nil || total != 84 || loads.Load() != 1) {
				t.Errorf("total is %d after %d loads, %v; want 84 after 1", total, loads.Load(), err)
			}
			if app, ok := errors.AsType[*temporal.ApplicationError](err); !sourced && (!ok || app.Type() != interceptors.ConfigNotFound) {
				t.Errorf("got %d, %v; want ConfigNotFound", total, err)
			}
		})
	}
}

// Two workers of a queue: the one that cannot regenerate a config gives the
// task back for later, and the one that can takes it.
func TestAWorkerWithoutSourceLeavesTheTaskToOneWithIt(t *testing.T) {
	t.Parallel()
	shared := "embedded://" + uuid.NewString()
	var loads atomic.Int64
	plain := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{Redis: redisstate.Options{URL: shared}}})
	sourced := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{Redis: redisstate.Options{URL: shared, Source: chargesSource(&loads)}}})
	config, err := redisstate.NewConfig("charge", "", chargeConfig{Amount: 42})
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []*testsuite.ActivityEnvironment{plain, sourced} {
		env.RegisterActivity(charge)
		env.SetCall(config.Ref, "charge-card", interceptors.Policy{})
	}
	_, err = plain.ExecuteActivity(charge)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || app.Type() != interceptors.ConfigNotFound || app.NonRetryable() || app.NextRetryDelay() < 10*time.Millisecond {
		t.Fatalf("without: %v; want a retryable ConfigNotFound with a delay", err)
	}
	result, err := sourced.ExecuteActivity(charge)
	if err != nil {
		t.Fatal(err)
	}
	var amount int
	if err := result.Get(&amount); err != nil || amount != 42 || loads.Load() != 1 {
		t.Fatalf("with: %d after %d loads, %v", amount, loads.Load(), err)
	}
	// Now the first one can, too.
	if _, err := plain.ExecuteActivity(charge); err != nil {
		t.Fatalf("it was not saved: %v", err)
	}
}

// A source whose database is away is no reason to give a task up.
func TestAFailingSourceIsTriedAgain(t *testing.T) {
	t.Parallel()
	away := redisstate.SourceFunc(func(context.Context, redisstate.Key) (redisstate.Entry, error) {
		return redisstate.Entry{}, errors.New("the database is away")
	})
	env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{Redis: redisstate.Options{Source: away}}})
	config, err := redisstate.NewConfig("charge", "", chargeConfig{Amount: 42})
	if err != nil {
		t.Fatal(err)
	}
	env.RegisterActivity(charge)
	env.SetCall(config.Ref, "charge-card", interceptors.Policy{})
	_, err = env.ExecuteActivity(charge)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || app.Type() != interceptors.ConfigNotFound || app.NonRetryable() || app.NextRetryDelay() < 10*time.Millisecond {
		t.Fatalf("got %v; want a retryable ConfigNotFound with a delay", err)
	}
}
