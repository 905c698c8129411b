package activities_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }

type chargeConfig struct {
	Amount int `json:"amount"`
}

// Charge is a critical activity with a config.
func Charge(ctx context.Context) (string, error) {
	config, err := activities.Config[chargeConfig](ctx)
	if err != nil {
		return "", err
	}
	fence, err := activities.Fence(ctx)
	if err != nil {
		return "", err
	}
	if err := activities.Progress(ctx, map[string]int{"charged": config.Amount}); err != nil {
		return "", err
	}
	return fmt.Sprintf("charged %d under a fence: %t", config.Amount, fence > 0), nil
}

func Example() {
	plugin, err := worker.NewPlugin(worker.Options{
		Redis:             redisstate.Options{URL: "embedded://activities-example"},
		Environment:       func(string) (string, bool) { return "", false },
		TemporalNamespace: "default-test-namespace", // that of Temporal's test environments
		Registerer:        prometheus.NewRegistry(),
		Logger:            slog.New(slog.DiscardHandler),
	})
	check(err)
	defer func() { check(plugin.Close(context.Background())) }()
	store, err := plugin.Store(context.Background())
	check(err)
	refs, err := store.Set(context.Background(), redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
	check(err)

	// In production workflow code names the config, the task and the policy.
	header, err := interceptors.Header(refs[0], "charge-card", interceptors.Critical)
	check(err)
	var suite sdktestsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(sdkworker.Options{Plugins: []sdkworker.Plugin{plugin}})
	env.RegisterActivity(Charge)
	env.SetHeader(header)
	result, err := env.ExecuteActivity(Charge)
	check(err)
	var text string
	check(result.Get(&text))
	fmt.Println(text)
	// Output: charged 42 under a fence: true
}

// A helper that is called outside of an activity names the remedy.
func ExampleStore() {
	_, err := activities.Store(context.Background())
	fmt.Println(errors.Is(err, activities.ErrNoPlugin))
	fmt.Println(activities.ErrNoPlugin)
	// Output:
	// true
	// no Redis plugin in this context; call it with an activity's context, and put worker.NewPlugin on the worker or its client
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// quiet is a Temporal logger that says nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
