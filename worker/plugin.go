package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

// Name is the plugin's name as Temporal shows it.
const Name = "compozy.temporal-redis"

// The SDK's two base types share a name, so each gets a field of its own.
type (
	clientBase struct{ client.PluginBase }
	workerBase struct{ sdkworker.PluginBase }
)

// Plugin implements client.Plugin and worker.Plugin of the SDK. NewPlugin makes
// one. It is safe for concurrent use.
type Plugin struct {
	clientBase
	workerBase

	options Options
	client  interceptor.ClientInterceptor
	tracing interceptor.Interceptor // nil: the host traces Temporal itself
	replay  interceptor.WorkerInterceptor
	// available is what slot gates ask; tests put another one in.
	available func() interceptors.Availability

	mu        sync.Mutex
	namespace string // Temporal's; "" until a client or the options tell it
	workers   map[string]*workerState
	running   int  // starts that were not yet stopped
	held      bool // the host's own use keeps Redis open until Close
	closed    bool
	rt        *runtime
	retired   []*runtime // closing, some after their last activity
	tellLocks sync.Once
	embedded  *redisstate.Conn // keeps an embedded Redis, and its data, over restarts
}

var (
	_ client.Plugin    = (*Plugin)(nil)
	_ sdkworker.Plugin = (*Plugin)(nil)
)

// NewPlugin checks every option, those from the environment included, and
// returns a plugin that has not connected to anything yet. The error wraps
// ErrInvalidOptions and names each option that is wrong and its remedy.
func NewPlugin(options Options) (*Plugin, error) {
	options = options.withDefaults()
	redis, err := redisstate.OptionsFromEnv(options.Redis, options.Environment)
	options.Redis = redis
	options.LockURLs = urlsFromEnv(options.LockURLs, options.Environment)
	if err := options.validate(err); err != nil {
		return nil, err
	}
	p := &Plugin{options: options, namespace: options.TemporalNamespace, workers: make(map[string]*workerState)}
	p.available = p.availability
	if p.client, err = interceptors.NewClient(clientHost{p}, options.interceptors()); err != nil {
		return nil, err
	}
	if p.replay, err = interceptors.NewWorker(replayHost{}, options.interceptors()); err != nil {
		return nil, err
	}
	if options.TracerProvider != nil {
		p.tracing, err = opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
			Tracer: options.TracerProvider.Tracer("go.temporal.io/sdk/contrib/opentelemetry"),
		})
		if err != nil {
			return nil, fmt.Errorf("worker: tracing interceptor: %w", err)
		}
	}
	return p, nil
}

// Name returns Name.
func (p *Plugin) Name() string { return Name }

// ConfigureClient adds the client interceptor, and Temporal's tracing
// interceptor when the plugin has a TracerProvider. It fails when the plugin
// already serves another Temporal namespace.
func (p *Plugin) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	namespace := o.ClientOptions.Namespace
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	if err := p.serve(namespace); err != nil {
		return err
	}
	add := slices.Clone(o.ClientOptions.Interceptors)
	if p.tracing != nil && !slices.Contains(add, interceptor.ClientInterceptor(p.tracing)) {
		add = append(add, p.tracing)
	}
	if !slices.Contains(add, p.client) {
		add = append(add, p.client)
	}
	o.ClientOptions.Interceptors = add
	return nil
}

// serve binds the plugin to a Temporal namespace.
func (p *Plugin) serve(namespace string) error {
	if p.options.Redis.Namespace != "" {
		return nil // the host chose the keys' names itself
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.namespace {
	case "", namespace:
		p.namespace = namespace
		return nil
	}
	return fmt.Errorf("worker: the plugin serves Temporal namespace %q and the client has %q; "+
		"make one plugin per namespace, or set Options.Redis.Namespace to share keys", p.namespace, namespace)
}

// NewClient connects the client; the plugin adds nothing of its own there.
func (p *Plugin) NewClient(
	ctx context.Context, o client.PluginNewClientOptions, next func(context.Context, client.PluginNewClientOptions) error,
) error {
	return next(ctx, o)
}

// ConfigureWorker adds the interceptors, sets the pollers that the host left
// unset and puts the slot gate on the task queues that the options name, once
// per worker however often the plugin is on it.
func (p *Plugin) ConfigureWorker(_ context.Context, o sdkworker.PluginConfigureWorkerOptions) error {
	state, first := p.worker(o.WorkerInstanceKey)
	if !first {
		return nil
	}
	settings := p.options.interceptors()
	if slots := activitySlots(o.WorkerOptions); settings.Pause.HoldSlots == 0 && slots > 0 {
		settings.Pause.HoldSlots = max(slots/2, 1)
	}
	inbound, err := interceptors.NewWorker(workerHost{p, state}, settings)
	if err != nil {
		return err
	}
	o.WorkerOptions.Interceptors = append(slices.Clone(o.WorkerOptions.Interceptors), inbound)
	if !p.options.KeepPollers {
		p.setPollers(o.TaskQueue, o.WorkerOptions)
	}
	return p.gatePolling(o.TaskQueue, o.WorkerOptions)
}

// activitySlots is how many activities a worker runs at once; 0 if it does not
// say.
func activitySlots(o *sdkworker.Options) int {
	if o.Tuner == nil {
		return o.MaxConcurrentActivityExecutionSize
	}
	if slots := o.Tuner.GetActivityTaskSlotSupplier(); slots != nil {
		return slots.MaxSlots()
	}
	return 0
}

// setPollers raises the pollers that the host left to the SDK.
func (p *Plugin) setPollers(taskQueue string, o *sdkworker.Options) {
	var set []any
	if o.MaxConcurrentActivityTaskPollers == 0 && o.ActivityTaskPollerBehavior == nil {
		o.MaxConcurrentActivityTaskPollers = DefaultActivityPollers
		set = append(set, "activity_pollers", DefaultActivityPollers)
	}
	if o.MaxConcurrentWorkflowTaskPollers == 0 && o.WorkflowTaskPollerBehavior == nil {
		o.MaxConcurrentWorkflowTaskPollers = DefaultWorkflowPollers
		set = append(set, "workflow_pollers", DefaultWorkflowPollers)
	}
	if set != nil {
		p.options.Logger.Info("pollers set by the Redis plugin; set them yourself or Options.KeepPollers to change this",
			append([]any{"task_queue", taskQueue}, set...)...)
	}
}

// StartWorker connects to Redis and checks it before the worker polls, and
// registers the plugin's activities.
func (p *Plugin) StartWorker(
	ctx context.Context, o sdkworker.PluginStartWorkerOptions,
	next func(context.Context, sdkworker.PluginStartWorkerOptions) error,
) error {
	first, err := p.start(ctx, o.WorkerInstanceKey)
	if err != nil {
		return err
	}
	if first {
		activities.Register(o.WorkerRegistry)
	}
	if err := next(ctx, o); err != nil {
		p.stop(ctx, o.WorkerInstanceKey) // a failed start brings no StopWorker
		return err
	}
	return nil
}

// StopWorker stops the worker, waits for its running activities and closes
// Redis after the last worker's.
func (p *Plugin) StopWorker(
	ctx context.Context, o sdkworker.PluginStopWorkerOptions,
	next func(context.Context, sdkworker.PluginStopWorkerOptions),
) {
	next(ctx, o)
	p.stop(ctx, o.WorkerInstanceKey)
}

// ConfigureWorkflowReplayer adds the workflow interceptor without Redis: a
// replay publishes nothing.
func (p *Plugin) ConfigureWorkflowReplayer(_ context.Context, o sdkworker.PluginConfigureWorkflowReplayerOptions) error {
	if !slices.Contains(o.WorkflowReplayerOptions.Interceptors, p.replay) {
		o.WorkflowReplayerOptions.Interceptors = append(slices.Clone(o.WorkflowReplayerOptions.Interceptors), p.replay)
	}
	return nil
}

// ReplayWorkflow replays; it never touches the resources of a worker.
func (p *Plugin) ReplayWorkflow(
	ctx context.Context, o sdkworker.PluginReplayWorkflowOptions,
	next func(context.Context, sdkworker.PluginReplayWorkflowOptions) error,
) error {
	return next(ctx, o)
}
