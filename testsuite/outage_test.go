package testsuite_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
)

// chargeEachMinute charges each minute, with options that a short outage would use up.
func chargeEachMinute(ctx workflow.Context, ref redisstate.Ref) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, ScheduleToStartTimeout: time.Minute, ScheduleToCloseTimeout: 2 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, MaximumAttempts: 3},
	})
	total := 0
	for range 5 {
		var amount int
		if err := workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), charge).Get(ctx, &amount); err != nil {
			return total, err
		}
		total += amount
		if err := workflow.Sleep(ctx, time.Minute); err != nil {
			return total, err
		}
	}
	return total, nil
}

func TestAnOutageOfTenVirtualMinutesUsesNoAttempt(t *testing.T) {
	t.Parallel()
	for _, attempts := range []interceptors.Mode{interceptors.On, interceptors.Off} {
		t.Run("attempts "+attempts.String(), func(t *testing.T) {
			t.Parallel()
			options := worker.Options{
				Redis: redisstate.Options{NearCacheBytes: -1, MaxRetries: -1},
				Pause: interceptors.Pause{Attempts: attempts},
			}
			if attempts == interceptors.Off { // Redis is still away at the end
				options.FlushTimeout = 100 * time.Millisecond
			}
			env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{Plugin: options})
			entered := 0
			env.RegisterActivityWithOptions(func(ctx context.Context) (int, error) {
				entered++
				config, err := activities.Config[chargeConfig](ctx)
				if err != nil {
					return 0, err
				}
				return config.Amount, nil
			}, activity.RegisterOptions{Name: "charge"})
			refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
			began := env.Now()
			env.RegisterDelayedCallback(env.StopRedis, 90*time.Second)
			env.RegisterDelayedCallback(env.StartRedis, 90*time.Second+10*time.Minute)
			env.ExecuteWorkflow(chargeEachMinute, refs[0])
			var total int
			err := env.GetWorkflowResult(&total)
			if attempts == interceptors.Off {
				if err == nil {
					t.Error("the outage used no attempt although nothing was to prevent it")
				}
				return
			}
			if err != nil || total != 5*42 || entered != 5 {
				t.Errorf("total is %d after %d entries, %v; want %d after 5", total, entered, err, 5*42)
			}
			if took := env.Now().Sub(began); took < 13*time.Minute {
				t.Errorf("the workflow took %v of virtual time; want the outage in it", took)
			}
		})
	}
}

// The plugin's own activities ask Redis and do nothing else: an outage costs them
// no attempt, although it is their code that meets it.
func TestAnOutageCostsThePluginsOwnActivitiesNoAttempt(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{Plugin: worker.Options{
		Redis: redisstate.Options{NearCacheBytes: -1, MaxRetries: -1},
	}})
	refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
	env.RegisterDelayedCallback(env.StopRedis, time.Second)
	env.RegisterDelayedCallback(env.StartRedis, 10*time.Minute)
	env.ExecuteWorkflow(func(ctx workflow.Context) ([]redisstate.Ref, error) {
		if err := workflow.Sleep(ctx, time.Minute); err != nil {
			return nil, err
		}
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute,
			RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, MaximumAttempts: 2},
		})
		return activities.PinConfigs(ctx, "charge")
	})
	var pinned []redisstate.Ref
	if err := env.GetWorkflowResult(&pinned); err != nil || len(pinned) != 1 || pinned[0] != refs[0] {
		t.Errorf("pinned are %v, %v; want %v", pinned, err, refs)
	}
}
