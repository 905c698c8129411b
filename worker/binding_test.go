package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/interceptors"
)

func TestPluginUsedBeforeItsClientKeepsTheNamespaceOfItsKeys(t *testing.T) {
	t.Parallel()
	plugin := newPlugin(t, testOptions(t))
	if _, err := plugin.Store(t.Context()); err != nil { // the host saves first and dials later
		t.Fatal(err)
	}
	o := client.Options{Namespace: "prod"}
	err := plugin.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o})
	if err == nil || !strings.Contains(err.Error(), `"prod"`) {
		t.Errorf("a client of another namespace got %v", err)
	}
}

func TestActivityOfAnotherNamespaceIsRefused(t *testing.T) {
	t.Parallel()
	plugin := newPlugin(t, testOptions(t)) // no client tells it a namespace
	var suite sdktestsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(sdkworker.Options{Plugins: []sdkworker.Plugin{plugin}})
	env.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "act"})
	_, err := env.ExecuteActivity("act")
	if err == nil || !strings.Contains(err.Error(), interceptors.PolicyInvalid) || !strings.Contains(err.Error(), "TemporalNamespace") {
		t.Errorf("error is %v; want the remedy", err)
	}
}

// stopped is a host whose worker has stopped.
type stopped struct{ interceptors.Host }

func (stopped) Enter() (interceptors.Resources, func(), error) {
	return interceptors.Resources{}, nil, errors.New("stopped")
}

func TestActivityThatNeedsNothingRunsEvenAfterTheStop(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]interceptors.Policy{"plain": {}, "critical": interceptors.Critical} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inbound, err := interceptors.NewWorker(stopped{}, interceptors.Options{DefaultPolicy: policy, Registerer: testOptions(t).Registerer})
			if err != nil {
				t.Fatal(err)
			}
			var suite sdktestsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			o := sdkworker.Options{}
			o.Interceptors = append(o.Interceptors, inbound)
			env.SetWorkerOptions(o)
			ran := false
			env.RegisterActivityWithOptions(func(context.Context) error { ran = true; return nil }, activity.RegisterOptions{Name: "act"})
			_, err = env.ExecuteActivity("act")
			if ran != (name == "plain") || (err == nil) != ran {
				t.Errorf("ran is %v, error %v", ran, err)
			}
		})
	}
}
