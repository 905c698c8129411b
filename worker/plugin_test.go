package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/loopback"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

func noEnvironment(string) (string, bool) { return "", false }

// testOptions are options on an embedded Redis of the test's own.
func testOptions(t *testing.T) worker.Options {
	t.Helper()
	return worker.Options{
		Redis:       redisstate.Options{URL: "embedded://" + uuid.NewString()},
		Environment: noEnvironment,
		Registerer:  prometheus.NewRegistry(),
		Logger:      slog.New(slog.DiscardHandler),
	}
}

func newPlugin(t *testing.T, o worker.Options) *worker.Plugin {
	t.Helper()
	plugin, err := worker.NewPlugin(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plugin.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return plugin
}

func TestNewPluginRefusesBadOptionsWithoutAnyNetwork(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*worker.Options)
		want   []string
	}{
		"no URL":             {func(o *worker.Options) { o.Redis.URL = "" }, []string{"REDIS_URL", "embedded://"}},
		"an unknown scheme":  {func(o *worker.Options) { o.Redis.URL = "http://localhost" }, []string{"http"}},
		"a lock below 1 s":   {func(o *worker.Options) { o.LockTTL = 1 }, []string{"LockTTL is 1ns", "at least 1s"}},
		"rare renewals":      {func(o *worker.Options) { o.LockTTL, o.LockRenewEvery = 4*time.Second, 3*time.Second }, []string{"LockRenewEvery is 3s", "half of it (2s)"}},
		"negative renewals":  {func(o *worker.Options) { o.LockRenewEvery = -1 }, []string{"LockRenewEvery is -1ns"}},
		"a short flush":      {func(o *worker.Options) { o.FlushTimeout = 1 }, []string{"FlushTimeout is 1ns", "at least 1ms"}},
		"a negative bound":   {func(o *worker.Options) { o.DrainTimeout = -1 }, []string{"DrainTimeout"}},
		"a policy of no use": {func(o *worker.Options) { o.Policies = map[string]interceptors.Policy{"x": {Lock: 9}} }, []string{`"x"`, "Lock"}},
		"a gate on no queue": {func(o *worker.Options) { o.GatedTaskQueues = []string{"q", ""} }, []string{"GatedTaskQueues", "empty name"}},
		"several mistakes at once": {func(o *worker.Options) {
			o.DrainTimeout, o.FlushTimeout, o.RetryDelay = -1, -1, time.Microsecond
		}, []string{"DrainTimeout", "FlushTimeout", "RetryDelay"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			c.change(&o)
			_, err := worker.NewPlugin(o)
			if err == nil {
				t.Fatal("the options were taken")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not name %q: %v", part, err)
				}
			}
		})
	}
}

func TestPluginTakesRedisFromTheEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"REDIS_URL": "redis://localhost:1", "REDIS_PASSWORD": "hunter2"}
	_, err := worker.NewPlugin(worker.Options{
		Environment: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		Registerer:  prometheus.NewRegistry(),
	})
	if err != nil {
		t.Error(err)
	}
	env["REDIS_TLS"] = "perhaps"
	_, err = worker.NewPlugin(worker.Options{
		DrainTimeout: -1,
		Environment:  func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		Registerer:   prometheus.NewRegistry(),
	})
	if err == nil || !strings.Contains(err.Error(), "REDIS_TLS") ||
		!strings.Contains(err.Error(), "DrainTimeout") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v; want REDIS_TLS and DrainTimeout named and no password", err)
	}
}

func TestConfigureClient(t *testing.T) {
	t.Parallel()

	t.Run("adds its interceptor once however often it is listed", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		theirs := &interceptor.ClientInterceptorBase{}
		given := []interceptor.ClientInterceptor{theirs}
		o := client.Options{Interceptors: given}
		for range 3 {
			if err := plugin.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}); err != nil {
				t.Fatal(err)
			}
		}
		if len(o.Interceptors) != 2 || o.Interceptors[0] != theirs || len(given) != 1 {
			t.Errorf("interceptors are %v", o.Interceptors)
		}
	})

	t.Run("refuses a second Temporal namespace", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		configure := func(ns string) error {
			o := client.Options{Namespace: ns}
			return plugin.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o})
		}
		if err := configure(""); err != nil {
			t.Fatal(err)
		}
		if err := configure("default"); err != nil {
			t.Error("default is the namespace of a client that names none:", err)
		}
		if err := configure("other"); err == nil || !strings.Contains(err.Error(), "one plugin per namespace") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestConfigureWorker(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		given              sdkworker.Options
		keep               bool
		activity, workflow int
	}{
		"sets the pollers that the host left unset": {activity: 8, workflow: 16},
		"leaves numbers alone":                      {given: sdkworker.Options{MaxConcurrentActivityTaskPollers: 3}, activity: 3, workflow: 16},
		"leaves behaviors alone": {
			given:    sdkworker.Options{WorkflowTaskPollerBehavior: sdkworker.NewPollerBehaviorAutoscaling(sdkworker.PollerBehaviorAutoscalingOptions{})},
			activity: 8, workflow: 0,
		},
		"keeps everything when told to": {keep: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			o.KeepPollers = c.keep
			plugin := newPlugin(t, o)
			for range 2 { // on the client and on the worker
				if err := plugin.ConfigureWorker(t.Context(), sdkworker.PluginConfigureWorkerOptions{
					WorkerInstanceKey: "one", TaskQueue: "q", WorkerOptions: &c.given,
				}); err != nil {
					t.Fatal(err)
				}
			}
			if c.given.MaxConcurrentActivityTaskPollers != c.activity || c.given.MaxConcurrentWorkflowTaskPollers != c.workflow {
				t.Errorf("pollers are %d and %d, want %d and %d", c.given.MaxConcurrentActivityTaskPollers,
					c.given.MaxConcurrentWorkflowTaskPollers, c.activity, c.workflow)
			}
			if len(c.given.Interceptors) != 1 {
				t.Errorf("%d interceptors, want 1", len(c.given.Interceptors))
			}
		})
	}
}

// registry counts what the plugin registers.
type registry struct {
	sdkworker.Registry
	mu    sync.Mutex
	names []string
}

func (r *registry) RegisterActivityWithOptions(_ any, o activity.RegisterOptions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, o.Name)
}

// instance drives the plugin as the SDK drives it for one worker.
type instance struct {
	plugin  *worker.Plugin
	key     string
	options sdkworker.Options
	names   registry
}

func newInstance(t *testing.T, plugin *worker.Plugin, key string) *instance {
	t.Helper()
	i := &instance{plugin: plugin, key: key}
	err := plugin.ConfigureWorker(t.Context(), sdkworker.PluginConfigureWorkerOptions{
		WorkerInstanceKey: key, TaskQueue: "q", WorkerOptions: &i.options,
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *instance) start(ctx context.Context, next func() error) error {
	o := sdkworker.PluginStartWorkerOptions{WorkerInstanceKey: i.key, WorkerRegistry: &i.names}
	return i.plugin.StartWorker(ctx, o, func(context.Context, sdkworker.PluginStartWorkerOptions) error { return next() })
}

func (i *instance) stop(ctx context.Context) {
	o := sdkworker.PluginStopWorkerOptions{WorkerInstanceKey: i.key}
	i.plugin.StopWorker(ctx, o, func(context.Context, sdkworker.PluginStopWorkerOptions) {})
}

func started() error { return nil }

func TestLifecycle(t *testing.T) {
	t.Parallel()

	t.Run("restarts as often as asked, alone and beside others", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		var wg sync.WaitGroup
		for _, key := range []string{"a", "b", "c"} {
			i := newInstance(t, plugin, key)
			wg.Go(func() {
				for range 50 {
					if err := i.start(t.Context(), started); err != nil {
						t.Error(err)
					}
					i.stop(t.Context())
				}
			})
		}
		wg.Wait()
		if err := plugin.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("on client and worker it registers and closes once", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		i := newInstance(t, plugin, "a")
		err := i.start(t.Context(), func() error { return i.start(t.Context(), started) })
		if err != nil {
			t.Fatal(err)
		}
		want := []string{activities.PinConfigsName, activities.DeleteConfigsName, activities.ExtendConfigsName}
		if !slices.Equal(i.names.names, want) {
			t.Errorf("registered %v, want each activity once: %v", i.names.names, want)
		}
		i.stop(t.Context()) // the inner one
		if err := plugin.Close(t.Context()); !errors.Is(err, worker.ErrWorkersRunning) {
			t.Errorf("close gave %v, want ErrWorkersRunning", err)
		}
		i.stop(t.Context())
		i.stop(t.Context()) // one too many does nothing
	})

	t.Run("a failed start leaves nothing open", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		i := newInstance(t, plugin, "a")
		boom := errors.New("boom")
		if err := i.start(t.Context(), func() error { return boom }); !errors.Is(err, boom) {
			t.Fatalf("start gave %v", err)
		}
		i.stop(t.Context()) // a later Stop still runs the chain
		if err := plugin.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("keeps an embedded Redis over a restart", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		i := newInstance(t, plugin, "a")
		if err := i.start(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		store, err := plugin.Store(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Set(t.Context(), redisstate.Entry{ID: "kept", Value: map[string]int{"a": 1}}); err != nil {
			t.Fatal(err)
		}
		i.stop(t.Context())
		if err := i.start(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		defer i.stop(t.Context())
		if _, err := store.Get(t.Context(), redisstate.ID("kept")); err != nil {
			t.Error(err)
		}
	})

	t.Run("after Close it says so", func(t *testing.T) {
		t.Parallel()
		plugin := newPlugin(t, testOptions(t))
		if err := plugin.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := plugin.Store(t.Context()); !errors.Is(err, worker.ErrClosed) {
			t.Errorf("Store gave %v", err)
		}
		i := newInstance(t, plugin, "a")
		if err := i.start(t.Context(), started); !errors.Is(err, worker.ErrClosed) {
			t.Errorf("start gave %v", err)
		}
	})
}

func closedPort(t *testing.T) string {
	t.Helper()
	port, err := loopback.Port()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loopback.Release(port) })
	return loopback.Address(port)
}

func TestStartChecksRedis(t *testing.T) {
	t.Parallel()
	const canary = "canary-6f1d"

	t.Run("a wrong password refuses the start, without the password", func(t *testing.T) {
		t.Parallel()
		server := miniredis.RunT(t)
		server.RequireAuth("right")
		o := testOptions(t)
		o.Redis = redisstate.Options{URL: "redis://" + server.Addr(), Password: canary}
		i := newInstance(t, newPlugin(t, o), "a")
		err := i.start(t.Context(), started)
		if !errors.Is(err, redisstate.ErrDenied) || strings.Contains(err.Error(), canary) {
			t.Errorf("start gave %v", err)
		}
	})

	t.Run("an outage starts a worker that is not ready", func(t *testing.T) {
		t.Parallel()
		o := testOptions(t)
		o.Redis = redisstate.Options{URL: "redis://" + closedPort(t)}
		plugin := newPlugin(t, o)
		i := newInstance(t, plugin, "a")
		if err := i.start(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		defer i.stop(t.Context())
		if status, _ := get(t, plugin, "/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("/readyz is %d", status)
		}
		if status, _ := get(t, plugin, "/healthz"); status != http.StatusOK {
			t.Errorf("/healthz is %d", status)
		}
	})

	t.Run("an outage refuses the start with FailFast", func(t *testing.T) {
		t.Parallel()
		o := testOptions(t)
		o.Redis = redisstate.Options{URL: "redis://" + closedPort(t)}
		o.FailFast = true
		i := newInstance(t, newPlugin(t, o), "a")
		if err := i.start(t.Context(), started); !errors.Is(err, redisstate.ErrUnavailable) {
			t.Errorf("start gave %v", err)
		}
	})
}

func get(t *testing.T, plugin *worker.Plugin, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	plugin.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	return recorder.Code, string(body)
}

func TestHandler(t *testing.T) {
	t.Parallel()
	plugin := newPlugin(t, testOptions(t))
	if status, _ := get(t, plugin, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d before a worker started", status)
	}
	i := newInstance(t, plugin, "a")
	if err := i.start(t.Context(), started); err != nil {
		t.Fatal(err)
	}
	defer i.stop(t.Context())
	if status, _ := get(t, plugin, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz is %d", status)
	}
	status, body := get(t, plugin, "/metrics")
	if status != http.StatusOK {
		t.Errorf("/metrics is %d", status)
	}
	for _, name := range []string{"redis_cache_hits{", "redis_lock_contention_total ", "redis_pubsub_msgs_total{"} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
}
