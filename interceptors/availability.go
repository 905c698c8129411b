package interceptors

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
)

// Types of the ApplicationErrors that this package returns to Temporal. They
// are part of the public contract: retry policies may name them.
const (
	// RedisUnavailable: Redis could not serve the attempt for a reason that
	// passes. Retryable, benign, with a next-retry delay.
	RedisUnavailable = "RedisUnavailable"
	// RedisDenied: wrong password, missing ACL permission or TLS trust, after a
	// good start of the worker. Retryable, since an operator is changing
	// something.
	RedisDenied = "RedisDenied"
	// LockContended: the lease was held by another past the bound of waiting, or until
	// the attempt was paused or reset.
	// Retryable, benign, with a next-retry delay.
	LockContended = "LockContended"
	// LeaseLost: the lease ended while the activity ran; its result is not
	// used. Retryable.
	LeaseLost = "LeaseLost"
	// ConfigNotFound: the config that the ref names is not in Redis, and this
	// worker's redisstate.Options.Source did not bring it back. Retryable, with a
	// next-retry delay, since another worker or the host can.
	ConfigNotFound = "ConfigNotFound"
	// ConfigTooNew: the config was written by a newer release of this module,
	// as happens in a rolling upgrade. Retryable, since an upgraded worker can
	// read it.
	ConfigTooNew = "ConfigTooNew"
	// ConfigKeyUnknown: the config is encrypted under a key that this worker does
	// not have, as happens in a rotation of keys. Retryable, since another worker
	// may have it.
	ConfigKeyUnknown = "ConfigKeyUnknown"
	// LockKeyUnknown: the policy names a function that this worker's Options.LockKeys
	// do not have, as happens in a rolling upgrade of the host. Retryable, since
	// another worker may have it.
	LockKeyUnknown = "LockKeyUnknown"
	// ConfigUnusable: the config, its ref or the header cannot be used as it
	// is. Not retryable.
	ConfigUnusable = "ConfigUnusable"
	// PolicyInvalid: the policy asks for something that this kind of activity
	// cannot have. Not retryable.
	PolicyInvalid = "PolicyInvalid"
	// TimedOut: the activity's code ran into the start-to-close or
	// schedule-to-close time-out that the host gave it, on an activity whose
	// time-outs this package holds itself (see Pause.Attempts). It wraps the
	// temporal.TimeoutError. Retryable as the time-out would be.
	TimedOut = "TimedOut"
	// WorkerNotRunning: an activity arrived outside of the worker's life.
	// Retryable.
	WorkerNotRunning = "WorkerNotRunning"
)

// availability turns errors that mean "Redis is away"
// into retryable ApplicationErrors. They are returned bare, because a wrapped
// ApplicationError loses its type, delay and category on the way to Temporal.
func (w *workerInterceptor) availability(ctx context.Context, c *call, next handler) (any, error) {
	result, err := next(ctx)
	if err == nil || c.policy.Pause == Off || w.options.Pause.Retry != On || errors.Is(err, activity.ErrResultPending) {
		return result, err
	}
	if _, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return nil, err // a step or the user decided already
	}
	switch {
	case errors.Is(err, redisstate.ErrCorrupt): // of this value only, and for good
		return nil, unusable(err)
	case errors.Is(err, redisstate.ErrUnavailable), errors.Is(err, redisstate.ErrClosed):
		return nil, w.retryLater(c, "Redis is unavailable; the attempt was given back to Temporal", RedisUnavailable, err)
	case errors.Is(err, redisstate.ErrDenied):
		if h := c.res.Health; h != nil && !h.Available() { // it has said so, once
			w.noteAway()
		} else if !w.wasAway() {
			w.options.Logger.ErrorContext(ctx, "Redis refuses the worker: an operator has to mend it", "op", "activity", "error", err)
		}
		return nil, w.retryLater(c, "Redis refused access; check username, password, ACL rules and TLS settings", RedisDenied, err)
	case errors.Is(err, locking.ErrNotAcquired):
		return nil, w.retryLater(c, "the lock is held by another activity of the workflow", LockContended, err)
	}
	return nil, err
}

// awayFor is for how long after an outage errors may still be of it: clients repeat what
// a dial met for up to a second.
const awayFor = 5 * time.Second

// noteAway notes that Redis is known to be away.
func (w *workerInterceptor) noteAway() { w.away.Store(time.Now().UnixNano()) }

// wasAway tells whether it was a moment ago.
func (w *workerInterceptor) wasAway() bool {
	return time.Since(time.Unix(0, w.away.Load())) < awayFor
}

// retryLater asks Temporal for another attempt after a jittered delay.
func (w *workerInterceptor) retryLater(c *call, msg, errType string, cause error) error {
	delay := w.retryDelay(c.info)
	c.outage = true
	w.metrics.ActivityRetries.WithLabelValues(errType).Inc()
	w.metrics.ActivityPause.WithLabelValues(pauseRetry).Add(delay.Seconds())
	return temporal.NewApplicationErrorWithOptions(msg, errType, temporal.ApplicationErrorOptions{
		Cause:          cause,
		NextRetryDelay: delay,
		Category:       temporal.ApplicationErrorCategoryBenign,
	})
}

// retryDelay grows with the attempts up to 5 times the option, is spread so
// that the activities of an outage do not come back at once, and stays under
// half of what is left of schedule-to-close: a delay past it would fail the
// activity at once.
func (w *workerInterceptor) retryDelay(info activity.Info) time.Duration {
	factor := min(max(info.Attempt, 1), 5)
	delay := time.Duration(float64(w.options.RetryDelay) * float64(factor) * (0.5 + w.options.jitter()))
	if info.ScheduleToCloseTimeout > 0 && !info.ScheduledTime.IsZero() {
		left := time.Until(info.ScheduledTime.Add(info.ScheduleToCloseTimeout))
		if left > 0 {
			delay = min(delay, left/2)
		}
	}
	return max(delay, time.Millisecond) // 0 would mean "unset"
}

func unusable(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), ConfigUnusable, err)
}

func invalidPolicy(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), PolicyInvalid, err)
}

func notRunning(err error) error {
	return temporal.NewApplicationErrorWithOptions("the worker's Redis plugin is not running", WorkerNotRunning,
		temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: time.Second})
}

// isOutage tells whether err means that Redis is away.
func isOutage(err error) bool {
	return errors.Is(err, redisstate.ErrUnavailable) || errors.Is(err, redisstate.ErrDenied) || errors.Is(err, redisstate.ErrClosed)
}

// isContention tells whether err means that another holds the lock.
func isContention(err error) bool { return errors.Is(err, locking.ErrNotAcquired) }
