package interceptors

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/redisstate"
)

// errNoRef is the cause when a policy asks for a config and the call has no ref.
var errNoRef = errors.New("the policy asks for a config but the call carries no ref; " +
	"schedule it with interceptors.WithConfig, or set Policy.Config to Default")

// config reads the config that the call's ref names and puts it in the context.
// It comes before the lock: configs are immutable, and bringing one back must
// not happen inside a lease.
func (w *workerInterceptor) config(ctx context.Context, c *call, next handler) (any, error) {
	if !c.wantsConfig() {
		return next(ctx)
	}
	if c.env.Ref == nil {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errNoRef))
	}
	config, err := c.res.Store.Get(ctx, c.env.Ref.Key())
	switch {
	case err == nil:
		return next(redisstate.WithConfig(ctx, config))
	case errors.Is(err, redisstate.ErrNotFound):
		return nil, temporal.NewApplicationErrorWithOptions(
			"the activity's config is not in Redis: it expired, was evicted or deleted; save it again, "+
				"set redisstate.Options.Source to regenerate it, or raise redisstate.Options.TTL",
			ConfigNotFound, temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: w.retryDelay(c.info)})
	case errors.Is(err, redisstate.ErrSourceFailed) && ctx.Err() == nil && !isOutage(err):
		return nil, temporal.NewApplicationErrorWithOptions(
			"the activity's config is not in Redis and redisstate.Options.Source failed to load it",
			ConfigNotFound, temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: w.retryDelay(c.info)})
	case errors.Is(err, redisstate.ErrNewerFormat):
		return nil, temporal.NewApplicationErrorWithOptions(
			"the activity's config was written by a newer release; upgrade this worker",
			ConfigTooNew, temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: w.retryDelay(c.info)})
	case errors.Is(err, redisstate.ErrUnavailable), errors.Is(err, redisstate.ErrDenied),
		errors.Is(err, redisstate.ErrClosed), ctx.Err() != nil:
		return nil, err // the availability step knows
	default:
		return nil, unusable(err) // this value's own trouble: no other value suffers
	}
}
