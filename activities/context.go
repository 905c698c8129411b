package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// Errors of the helpers, for errors.Is. They are mistakes of the program, not of
// Redis, and come in non-retryable ApplicationErrors of type PluginMisuse.
var (
	// ErrNoPlugin says that the context does not come from an activity of a
	// worker with the plugin.
	ErrNoPlugin = errors.New("no Redis plugin in this context; call it with an activity's context, and put worker.NewPlugin on the worker or its client")
	// ErrNoConfig says that the activity was scheduled without a config.
	ErrNoConfig = errors.New("the activity was scheduled without a config; use interceptors.WithConfig in the workflow")
	// ErrNoLease says that the activity holds no lease.
	ErrNoLease = errors.New("the activity holds no lease; give its type the policy interceptors.Critical")
)

// Config returns the config of the running activity, decoded into T. It is
// decoded once per content and type and shared between activities: treat it as
// read-only. No round trip is made. Errors: ErrNoConfig, or an error wrapping
// redisstate.ErrCorrupt when the content is not a T, or ErrNoPlugin.
func Config[T any](ctx context.Context) (*T, error) {
	config, err := configOf(ctx, "config")
	if err != nil {
		return nil, err
	}
	return redisstate.Decode[T](config)
}

func configOf(ctx context.Context, op string) (redisstate.Config, error) {
	if config, ok := redisstate.FromContext(ctx); ok {
		return config, nil
	}
	if _, ok := redisstate.StoreFromContext(ctx); !ok {
		return redisstate.Config{}, noPlugin(ctx, op)
	}
	return redisstate.Config{}, misuse(op, ErrNoConfig)
}

// PluginMisuse is the type of the ApplicationErrors that tell of a mistake in
// the program. Not retryable.
const PluginMisuse = "PluginMisuse"

// misuse is an error that an activity may return as it is: trying again does
// not mend a mistake in the program.
func misuse(op string, err error) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf("activities: %s: %v", op, err), PluginMisuse, err)
}

// workerNotRunning is interceptors.WorkerNotRunning.
const workerNotRunning = "WorkerNotRunning"

// noPlugin is for who asks where there is no plugin. The one of a worker that stops may
// be gone before the last activity begins: that is no mistake, and another worker will
// do.
func noPlugin(ctx context.Context, op string) error {
	if activity.IsActivity(ctx) {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			return temporal.NewApplicationErrorWithOptions(fmt.Sprintf("activities: %s: the worker stops", op), workerNotRunning,
				temporal.ApplicationErrorOptions{Cause: ErrNoPlugin, NextRetryDelay: time.Second})
		default:
		}
	}
	return misuse(op, ErrNoPlugin)
}

// Ref returns the ref of the running activity's config. Errors: ErrNoConfig,
// ErrNoPlugin.
func Ref(ctx context.Context) (redisstate.Ref, error) {
	config, err := configOf(ctx, "ref")
	return config.Ref, err
}

// Store returns the worker's config store. Errors: ErrNoPlugin.
func Store(ctx context.Context) (redisstate.ConfigStore, error) {
	store, ok := redisstate.StoreFromContext(ctx)
	if !ok {
		return nil, noPlugin(ctx, "store")
	}
	return store, nil
}

// SaveConfigs saves configs that arise at run time, all in one pipeline, and
// returns their refs in the order of the entries. Entries without a Workflow
// belong to the activity's own workflow. Saving the same content again, as a
// retried activity does, gives the same refs. Errors: ErrNoPlugin and those of
// redisstate.ConfigStore.Set, to be returned from the activity as they are.
func SaveConfigs(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error) {
	store, err := Store(ctx)
	if err != nil {
		return nil, err
	}
	own := make([]redisstate.Entry, len(entries))
	copy(own, entries)
	if activity.IsActivity(ctx) {
		workflowID := activity.GetInfo(ctx).WorkflowExecution.ID
		for i := range own {
			if own[i].Workflow == "" {
				own[i].Workflow = workflowID
			}
		}
	}
	return store.Set(ctx, own...)
}

// Fence returns the fence of the lease that the running critical activity
// holds: write it beside every change made outside of Redis, and refuse a
// change whose fence is lower than the stored one. It rises with each lease of
// the resource, not by one, and needs 64 bits (BIGINT in a database). Errors: ErrNoLease,
// ErrNoPlugin.
func Fence(ctx context.Context) (uint64, error) {
	if lease, ok := locking.FromContext(ctx); ok {
		return lease.Fence(), nil
	}
	if _, ok := redisstate.StoreFromContext(ctx); !ok {
		return 0, noPlugin(ctx, "fence")
	}
	return 0, misuse("fence", ErrNoLease)
}

// Done is how far an activity is, for Progress; viewers know it.
type Done struct {
	// Done of Total units of work are done; Total is 0 where that is not known.
	Done  int64 `json:"done"`
	Total int64 `json:"total,omitempty"`
	// Message is a line for people.
	Message string `json:"message,omitempty"`
}

// Progress publishes data (encoded as JSON; its size is bounded by the
// notifier), a Done for example, as a progress event of the running activity. Of calls
// within 100 ms the last is told. It never blocks and does not fail for Redis' sake. Errors: ErrNoPlugin, notifier.ErrInvalidEvent,
// and those of encoding/json.
func Progress(ctx context.Context, data any) error {
	publisher, ok := notifier.FromContext(ctx)
	if !ok || !activity.IsActivity(ctx) {
		return noPlugin(ctx, "progress")
	}
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("activities: progress: encode data: %w", err)
	}
	call, _ := notifier.CallFromContext(ctx)
	info := activity.GetInfo(ctx)
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return publisher.Publish(notifier.Event{
		Kind:         notifier.KindProgress,
		WorkflowID:   call.WorkflowID,
		RunID:        info.WorkflowExecution.RunID,
		TaskID:       call.TaskID,
		Call:         call.Call,
		ActivityID:   info.ActivityID,
		ActivityType: info.ActivityType.Name,
		Attempt:      cmp.Or(call.Attempt, info.Attempt),
		Status:       notifier.StatusRunning,
		Traceparent:  carrier["traceparent"],
		Data:         body,
	})
}
