package testsuite_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
)

// ChargeConfig is the README's config.
type ChargeConfig struct {
	Amount int `json:"amount"`
}

func (c *ChargeConfig) charge(_ context.Context, fence uint64) error {
	if c.Amount != 42 || fence == 0 {
		panic("the README's activity has neither its config nor its fence")
	}
	return nil
}

func Checkout(ctx workflow.Context, ref redisstate.Ref) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	ctx = interceptors.WithConfig(ctx, ref)                   // only the ref enters history
	ctx = interceptors.WithTask(ctx, "charge-card")           // the name that watchers see
	ctx = interceptors.WithPolicy(ctx, interceptors.Critical) // one at a time per workflow
	return workflow.ExecuteActivity(ctx, "Charge").Get(ctx, nil)
}

func Charge(ctx context.Context) error {
	cfg, err := activities.Config[ChargeConfig](ctx) // typed, decoded once, shared: read-only
	if err != nil {
		return err
	}
	fence, err := activities.Fence(ctx) // write it beside what you change elsewhere
	if err != nil {
		return err
	}
	return cfg.charge(ctx, fence) // ctx dies with cause locking.ErrLost when the lease is gone
}

// The README's workflow runs, and is the one above to the letter.
func TestReadmeSample(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivity(Charge)
	env.ExecuteWorkflow(Checkout, env.SaveConfigs(redisstate.Entry{ID: "charge", Value: ChargeConfig{Amount: 42}})[0])
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	sample := string(source)
	sample = sample[strings.Index(sample, "func Checkout"):strings.Index(sample, "\n// The README's workflow runs")]
	if !strings.Contains(string(readme), sample) {
		t.Error("README.md does not show Checkout and Charge as they stand here")
	}
}
