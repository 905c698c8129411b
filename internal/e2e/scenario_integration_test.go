//go:build integration

package e2e

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

type stepConfig struct {
	Text string `json:"text"`
}

// pipeline is the workflow of the golden histories: a config, a critical
// activity, two in parallel of which a selector takes the first, a timer, a
// local activity and one that fails. Changing it needs new histories.
func pipeline(ctx workflow.Context, refs []redisstate.Ref) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 2},
	})
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 5 * time.Second})
	var first string
	step := interceptors.WithTask(interceptors.WithConfig(ctx, refs[0]), "first")
	if err := workflow.ExecuteActivity(interceptors.WithPolicy(step, interceptors.Critical), "read").Get(ctx, &first); err != nil {
		return "", err
	}
	a := workflow.ExecuteActivity(interceptors.WithTask(interceptors.WithConfig(ctx, refs[1]), "left"), "read")
	b := workflow.ExecuteActivity(interceptors.WithTask(interceptors.WithConfig(ctx, refs[2]), "right"), "read")
	timer := workflow.NewTimer(ctx, 10*time.Millisecond)
	var left, right string
	var failed error
	selector := workflow.NewSelector(ctx)
	selector.AddFuture(a, func(f workflow.Future) { failed = f.Get(ctx, &left) })
	selector.AddFuture(b, func(f workflow.Future) { failed = f.Get(ctx, &right) })
	selector.AddFuture(timer, func(workflow.Future) {})
	for range 3 {
		selector.Select(ctx)
		if failed != nil {
			return "", failed
		}
	}
	var local string
	if err := workflow.ExecuteLocalActivity(ctx, shout, left).Get(ctx, &local); err != nil {
		return "", err
	}
	if err := workflow.ExecuteActivity(interceptors.WithTask(ctx, "broken"), "fail").Get(ctx, nil); err == nil {
		return "", temporal.NewApplicationError("the failing activity did not fail", "Unexpected")
	}
	return first + " " + local + " " + right, nil
}

func read(ctx context.Context) (string, error) {
	config, err := activities.Config[stepConfig](ctx)
	if err != nil {
		return "", err
	}
	return config.Text, nil
}

// readWithout is read for workers without the plugin: the content is fixed.
func readWithout(context.Context) (string, error) { return "plain", nil }

func shout(_ context.Context, text string) (string, error) { return text + "!", nil }

func fail(context.Context) error { return temporal.NewApplicationError("as planned", "Planned") }

func registerPipeline(r sdkworker.Registry) {
	r.RegisterWorkflow(pipeline)
	r.RegisterActivityWithOptions(read, activity.RegisterOptions{Name: "read"})
	r.RegisterActivityWithOptions(fail, activity.RegisterOptions{Name: "fail"})
	r.RegisterActivity(shout)
}

func pipelineConfigs() []redisstate.Entry {
	return []redisstate.Entry{
		{ID: "e2e/first", Value: stepConfig{"one"}},
		{ID: "e2e/left", Value: stepConfig{"two"}},
		{ID: "e2e/right", Value: stepConfig{"three"}},
	}
}
