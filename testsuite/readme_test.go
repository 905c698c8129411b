package testsuite_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
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

// What follows shows calls one after the other and, as the README does, leaves
// errors out.

//nolint:ineffassign,staticcheck,wastedassign // errors are left out
func adopt() (sdkworker.Worker, error) {
	plugin, err := worker.NewPlugin(worker.Options{})                       // REDIS_URL, or embedded://
	c, err := client.Dial(client.Options{Plugins: []client.Plugin{plugin}}) // the plugin reaches workers by itself
	w := sdkworker.New(c, "compozy", sdkworker.Options{})                   // register, run
	return w, err
}

//nolint:ineffassign,staticcheck,wastedassign // errors are left out
func begin(ctx context.Context, plugin *worker.Plugin, c client.Client, workflowID string, cfg ChargeConfig) (client.WorkflowRun, error) {
	store, err := plugin.Store(ctx)
	refs, err := store.Set(ctx, redisstate.Entry{ID: workflowID + "/charge", Workflow: workflowID, Value: cfg})
	start := client.StartWorkflowOptions{ID: workflowID, TaskQueue: "compozy"}
	run, err := c.ExecuteWorkflow(ctx, start, Checkout, refs[0])
	return run, err
}

//nolint:ineffassign,staticcheck,wastedassign // errors are left out
func watch(ctx context.Context, plugin *worker.Plugin, workflowID string) error {
	hub, err := plugin.Subscriber(ctx)         // all subscriptions of a process share one connection
	sub, err := hub.Subscribe(ctx, workflowID) // the present state of every task, then live
	for ev := range sub.Events() {
		fmt.Println(ev.TaskID, ev.Status, ev.Reason) // SUCCESS comes twice: the attempt's, then the final one (ev.Final)
		if ev.EndsWorkflow() {                       // a TaskID of "" is the workflow itself
			sub.Close()
		}
	}
	return err
}

// Receipt is the README's session value.
type Receipt struct {
	Number int `json:"number"`
}

//nolint:ineffassign,staticcheck,wastedassign // errors are left out
func share(ctx context.Context, plugin *worker.Plugin) (int64, Receipt, error) {
	counters, err := plugin.Counters(ctx)         // shared by all processes
	prometheus.MustRegister(counters.Collector()) // in one of them
	n, err := counters.Incr(ctx, "charges", 1)    // at most once
	session, err := activities.Session(ctx)       // in an activity: shared by those of its run, kept out of history
	err = session.Set(ctx, "receipt", Receipt{Number: 7})
	receipt, err := redisstate.SessionGet[Receipt](ctx, session, "receipt")
	return n, receipt, err
}

// The README's workflow runs, its calls do, and all of it stands above to the
// letter.
func TestReadmeSample(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivity(Charge)
	env.ExecuteWorkflow(Checkout, env.SaveConfigs(redisstate.Entry{ID: "charge", Value: ChargeConfig{Amount: 42}})[0])
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := watch(ctx, env.Plugin(), "default-test-workflow-id"); err != nil || ctx.Err() != nil {
		t.Errorf("watching gave %v, %v", err, ctx.Err())
	}
	env = testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivityWithOptions(func(ctx context.Context) error {
		if n, receipt, err := share(ctx, env.Plugin()); err != nil || n != 1 || receipt.Number != 7 {
			t.Errorf("sharing gave %d, %v, %v", n, receipt, err)
		}
		return nil
	}, activity.RegisterOptions{Name: "Charge"})
	env.ExecuteWorkflow(Checkout, env.SaveConfigs(redisstate.Entry{ID: "charge", Value: ChargeConfig{}})[0])
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
	_, _ = adopt, begin // they need a Temporal server

	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	here := regexp.MustCompile(`(?m)^\t`).ReplaceAllString(string(source), "")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	for _, block := range blocks {
		if !strings.Contains(string(source), block[1]) && !strings.Contains(here, block[1]) {
			t.Errorf("README.md shows what does not stand here:\n%s", block[1])
		}
	}
	if len(blocks) != 5 {
		t.Errorf("README.md has %d samples; want 5", len(blocks))
	}
}
