package testsuite

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// Options are the settings of a test environment. The zero value works.
type Options struct {
	// Plugin are the plugin's options. Defaults, where not set: an embedded
	// Redis of the environment's own, a registry of its own, no environment
	// variables, a logger that writes warnings to the test's output, and
	// Pause.Hold Off: an attempt that holds waits in real time, and Temporal's
	// test environments skip time only between attempts.
	Plugin worker.Options
	// Worker are the options of Temporal's worker; the plugin is added. Its
	// DeadlockDetectionTimeout defaults to 10 s here instead of 1 s: a test
	// machine with more to do than it can is not a deadlock.
	Worker sdkworker.Options
}

// environmentNamespace is the Temporal namespace of the SDK's test environments.
const environmentNamespace = "default-test-namespace"

// deadlockTimeout is how long workflow code may take between two yields.
const deadlockTimeout = 10 * time.Second

// closeTimeout bounds the end of an environment whose plugin has no
// FlushTimeout of its own.
const closeTimeout = 10 * time.Second

// harness is what both environments share.
type harness struct {
	t      testing.TB
	plugin *worker.Plugin
	store  *redisstate.Store
	worker sdkworker.Options
	own    *ownRedis // nil: the test named another

	sessions *redisstate.Sessions
	counters *redisstate.Counters
}

func newHarness(t testing.TB, o Options) *harness {
	t.Helper()
	if o.Plugin.Environment == nil {
		o.Plugin.Environment = func(string) (string, bool) { return "", false }
	}
	var own *ownRedis
	if o.Plugin.Redis.URL == "" && o.Plugin.Redis.Client == nil {
		own = startRedis(t)
		o.Plugin.Redis.URL = own.url()
	}
	if o.Plugin.TemporalNamespace == "" {
		o.Plugin.TemporalNamespace = environmentNamespace
	}
	if o.Plugin.Registerer == nil {
		o.Plugin.Registerer = prometheus.NewRegistry()
	}
	if o.Plugin.Logger == nil {
		o.Plugin.Logger = slog.New(slog.NewTextHandler(outputOf(t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if p := &o.Plugin.Pause; p.Hold == interceptors.Default && p.HoldFor == 0 {
		p.Hold = interceptors.Off
	}
	plugin, err := worker.NewPlugin(o.Plugin)
	if err != nil {
		t.Fatalf("testsuite: %v", err)
	}
	bound := closeTimeout
	if o.Plugin.FlushTimeout > 0 {
		bound = o.Plugin.FlushTimeout
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		switch err := plugin.Close(ctx); {
		case errors.Is(err, redisstate.ErrUnavailable): // the test took Redis away
			t.Logf("testsuite: %v", err)
		case err != nil:
			t.Errorf("testsuite: %v", err)
		}
	})
	store, err := plugin.Store(t.Context())
	if err != nil {
		t.Fatalf("testsuite: %v", err)
	}
	sessions, err := plugin.Sessions(t.Context())
	if err != nil {
		t.Fatalf("testsuite: %v", err)
	}
	counters, err := plugin.Counters(t.Context())
	if err != nil {
		t.Fatalf("testsuite: %v", err)
	}
	if o.Worker.DeadlockDetectionTimeout == 0 {
		o.Worker.DeadlockDetectionTimeout = deadlockTimeout
	}
	o.Worker.Plugins = append([]sdkworker.Plugin{plugin}, o.Worker.Plugins...)
	return &harness{t: t, plugin: plugin, store: store, worker: o.Worker, own: own, sessions: sessions, counters: counters}
}

// Plugin is the plugin of the environment.
func (h *harness) Plugin() *worker.Plugin { return h.plugin }

// Store is the environment's config store.
func (h *harness) Store() *redisstate.Store { return h.store }

// Session is the session of a run in the environment, as its activities see it.
func (h *harness) Session(workflowID, runID string) *redisstate.Session {
	h.t.Helper()
	session, err := h.sessions.Open(redisstate.ExecutionID(workflowID, runID))
	if err != nil {
		h.t.Fatalf("testsuite: %v", err)
	}
	return session
}

// Counters are the environment's counters and gauges.
func (h *harness) Counters() *redisstate.Counters { return h.counters }

// SaveConfigs saves configs as a host does before it starts a workflow, and
// fails the test if that fails.
func (h *harness) SaveConfigs(entries ...redisstate.Entry) []redisstate.Ref {
	h.t.Helper()
	refs, err := h.store.Set(h.t.Context(), entries...)
	if err != nil {
		h.t.Fatalf("testsuite: save configs: %v", err)
	}
	return refs
}

// FlushRedis empties the Redis of the environment, as an operator's FLUSHALL in
// mid-run would: call it from an activity of the test to see what Options.Source
// brings back. Contents that were read by ref before are still in the process'
// near cache; Plugin.Redis.NearCacheBytes: -1 leaves that out. It fails the test
// where Plugin.Redis names a Redis that is not the environment's own.
func (h *harness) FlushRedis() {
	h.t.Helper()
	h.mine("FlushRedis").server.FlushAll()
}

// StopRedis takes the Redis of the environment away: commands fail and
// connections are cut until StartRedis. Its data stays. Call it from the test,
// from an activity, or at a point of a workflow's virtual time:
//
//	env.RegisterDelayedCallback(env.StopRedis, time.Minute)
//	env.RegisterDelayedCallback(env.StartRedis, 11*time.Minute)
//
// Activities wait for it between attempts, in virtual time. (Temporal's test
// environments give up after 10 attempts where a retry policy has no
// MaximumAttempts.) It fails the test where Plugin.Redis names a Redis that is not
// the environment's own.
func (h *harness) StopRedis() {
	h.t.Helper()
	h.mine("StopRedis").stop()
}

// StartRedis ends what StopRedis began.
func (h *harness) StartRedis() {
	h.t.Helper()
	if err := h.mine("StartRedis").start(); err != nil {
		h.t.Fatalf("testsuite: start Redis: %v", err)
	}
}

func (h *harness) mine(op string) *ownRedis {
	h.t.Helper()
	if h.own == nil {
		h.t.Fatalf("testsuite: %s is for the environment's own Redis; leave Plugin.Redis.URL and Client unset", op)
	}
	return h.own
}

// Events returns the events of a workflow from the start of its log up to the
// first one that last accepts, and fails the test if none comes before ctx
// ends. A workflow of Temporal's test environment that was given no id of its
// own has "default-test-workflow-id".
func (h *harness) Events(ctx context.Context, workflowID string, last func(notifier.Event) bool) []notifier.Event {
	h.t.Helper()
	hub, err := h.plugin.Subscriber(ctx)
	if err != nil {
		h.t.Fatalf("testsuite: subscribe: %v", err)
	}
	sub, err := hub.Subscribe(ctx, workflowID, notifier.FromStart())
	if err != nil {
		h.t.Fatalf("testsuite: subscribe: %v", err)
	}
	defer sub.Close()
	var events []notifier.Event
	for {
		select {
		case ev, ok := <-sub.Events():
			if !ok {
				h.t.Fatalf("testsuite: the subscription ended: %v; seen %d events", sub.Err(), len(events))
			}
			events = append(events, ev)
			if last(ev) {
				return events
			}
		case <-ctx.Done():
			h.t.Fatalf("testsuite: %v while waiting for an event; seen %v", context.Cause(ctx), events)
		}
	}
}

// WorkflowEnvironment is Temporal's TestWorkflowEnvironment with the plugin.
type WorkflowEnvironment struct {
	*sdktestsuite.TestWorkflowEnvironment
	*harness
}

// NewWorkflowEnvironment returns a workflow test environment with the plugin on
// a Redis of its own. It ends with the test; what cannot be set up fails the
// test.
func NewWorkflowEnvironment(t testing.TB, o Options) *WorkflowEnvironment {
	t.Helper()
	h := newHarness(t, o)
	var suite sdktestsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(h.worker)
	return &WorkflowEnvironment{TestWorkflowEnvironment: env, harness: h}
}

// ActivityEnvironment is Temporal's TestActivityEnvironment with the plugin.
type ActivityEnvironment struct {
	*sdktestsuite.TestActivityEnvironment
	*harness
}

// NewActivityEnvironment returns an activity test environment with the plugin
// on a Redis of its own. See NewWorkflowEnvironment.
func NewActivityEnvironment(t testing.TB, o Options) *ActivityEnvironment {
	t.Helper()
	h := newHarness(t, o)
	var suite sdktestsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(h.worker)
	return &ActivityEnvironment{TestActivityEnvironment: env, harness: h}
}

// SetCall makes the following activities run as if a workflow had scheduled
// them with interceptors.WithConfig, WithTask and WithPolicy. A zero ref means
// no config.
func (e *ActivityEnvironment) SetCall(ref redisstate.Ref, taskID string, p interceptors.Policy) {
	e.t.Helper()
	header, err := interceptors.Header(ref, taskID, p)
	if err != nil {
		e.t.Fatalf("testsuite: %v", err)
	}
	e.SetHeader(header)
}
