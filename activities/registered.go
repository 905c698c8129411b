package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/redisstate"
)

// Names under which the plugin registers its activities. They are part of
// running workflows' histories and never change.
const (
	PinConfigsName    = "temporal-redis.PinConfigs"
	DeleteConfigsName = "temporal-redis.DeleteConfigs"
	ExtendConfigsName = "temporal-redis.ExtendConfigs"
)

// Registry is what Register needs of a worker.
type Registry interface {
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// Register puts the plugin's activities on a worker. The plugin calls it; a
// test environment without the plugin may call it too.
func Register(r Registry) {
	r.RegisterActivityWithOptions(pinConfigs, options(PinConfigsName))
	r.RegisterActivityWithOptions(deleteConfigs, options(DeleteConfigsName))
	r.RegisterActivityWithOptions(extendConfigs, options(ExtendConfigsName))
}

func options(name string) activity.RegisterOptions {
	return activity.RegisterOptions{Name: name, DisableAlreadyRegisteredCheck: true}
}

// PinConfigs turns config ids into refs to their present content, in the order
// of the ids, from workflow code. The refs enter history, so every later read
// sees the same content whatever is written meanwhile. It is retried until the
// configs are there or the options of ctx end it; where ctx carries no
// start-to-close time-out, one minute applies.
func PinConfigs(ctx workflow.Context, ids ...string) ([]redisstate.Ref, error) {
	var refs []redisstate.Ref
	err := workflow.ExecuteActivity(withTimeout(ctx), PinConfigsName, ids).Get(ctx, &refs)
	return refs, err
}

// DeleteConfigs removes the configs with the given ids, from workflow code, and
// returns how many were there. Configs expire by themselves; deleting is for
// those that should not wait for it.
func DeleteConfigs(ctx workflow.Context, ids ...string) (int, error) {
	var n int
	err := workflow.ExecuteActivity(withTimeout(ctx), DeleteConfigsName, ids).Get(ctx, &n)
	return n, err
}

func withTimeout(ctx workflow.Context) workflow.Context {
	o := workflow.GetActivityOptions(ctx)
	if o.StartToCloseTimeout == 0 && o.ScheduleToCloseTimeout == 0 {
		o.StartToCloseTimeout = time.Minute
	}
	return workflow.WithActivityOptions(ctx, o)
}

func pinConfigs(ctx context.Context, ids []string) ([]redisstate.Ref, error) {
	store, err := Store(ctx)
	if err != nil {
		return nil, err
	}
	wanted := keysOf(ids)
	found, err := store.GetMany(ctx, wanted...)
	if err != nil {
		return nil, ownFault(err)
	}
	refs := make([]redisstate.Ref, len(ids))
	for i, key := range wanted {
		config, ok := found[key]
		if !ok {
			return nil, fmt.Errorf("%s: config %d of %d: %w", PinConfigsName, i+1, len(ids), redisstate.ErrNotFound)
		}
		refs[i] = config.Ref
	}
	return refs, nil
}

func deleteConfigs(ctx context.Context, ids []string) (int, error) {
	store, err := Store(ctx)
	if err != nil {
		return 0, err
	}
	n, err := store.Delete(ctx, keysOf(ids)...)
	return n, ownFault(err)
}

func keysOf(ids []string) []redisstate.Key {
	keys := make([]redisstate.Key, len(ids))
	for i, id := range ids {
		keys[i] = redisstate.ID(id)
	}
	return keys
}

// ownFault makes errors that no retry mends non-retryable.
func ownFault(err error) error {
	for _, own := range []error{redisstate.ErrInvalidKey, redisstate.ErrCorrupt, redisstate.ErrWrongType, redisstate.ErrTooLarge} {
		if errors.Is(err, own) {
			return temporal.NewNonRetryableApplicationError(err.Error(), "ConfigUnusable", err)
		}
	}
	return err
}
