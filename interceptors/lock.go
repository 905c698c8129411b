package interceptors

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
)

var (
	errLocalLock = errors.New("a local activity cannot hold a lock: waiting for it would block the workflow task; " +
		"run it as a regular activity, or set Policy.Lock to Off")
	errPendingLock = errors.New("activity.ErrResultPending under a lock: the work would go on after the lease; " +
		"finish the work before returning, or set Policy.Lock to Off")
	errNoWorkflow = errors.New("the activity has no workflow to lock; set Options.LockKey, or Policy.Lock to Off")
)

// lock runs the rest of the chain under the workflow's lease. The context it
// passes on dies with the lease, with locking.ErrLost as its cause, and a
// result that arrives after that is not used.
func (w *workerInterceptor) lock(ctx context.Context, c *call, next handler) (any, error) {
	if c.policy.Lock != On {
		return next(ctx)
	}
	if c.info.IsLocalActivity {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errLocalLock))
	}
	resource, err := w.options.LockKey(c.info)
	if err != nil {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, err))
	}
	lease, err := c.res.Locks.Acquire(ctx, resource, w.acquireOptions(ctx, c)...)
	if err != nil {
		return nil, err
	}
	defer w.release(ctx, lease)
	w.publishAttempt(ctx, c, notifier.StatusRunning, "")

	bound, stop := lease.Bind(ctx)
	defer stop()
	result, err := next(locking.NewContext(bound, lease))
	switch {
	case errors.Is(err, activity.ErrResultPending):
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errPendingLock))
	case errors.Is(context.Cause(lease.Context()), locking.ErrLost):
		return nil, temporal.NewApplicationErrorWithOptions(
			"the lease was lost while the activity ran; its result is not used", LeaseLost,
			temporal.ApplicationErrorOptions{Cause: errors.Join(context.Cause(lease.Context()), err), NextRetryDelay: w.retryDelay(c.info)})
	}
	return result, err
}

// acquireOptions bounds the wait by the option and by half of the time the
// attempt has left, so that user code keeps the other half, and the lease by
// the attempt's deadline.
func (w *workerInterceptor) acquireOptions(ctx context.Context, c *call) []locking.Option {
	wait := w.options.LockWait
	opts := []locking.Option{locking.WithWaitCallback(func(locking.Waiting) { heartbeat(ctx, c.info) })}
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(deadline)/2, 0))
		opts = append(opts, locking.WithDeadline(deadline))
	}
	return append(opts, locking.WithWait(wait))
}

// release gives the lease back even if the activity's context has ended.
func (w *workerInterceptor) release(ctx context.Context, lease *locking.Lease) {
	err := lease.Release(context.WithoutCancel(ctx))
	if err != nil && !errors.Is(err, locking.ErrNotHeld) {
		w.options.Logger.WarnContext(ctx, "lock not released; it ends by its TTL",
			"op", "release", "family", "lock", "error", err)
	}
}

// heartbeat keeps a waiting activity alive. The server replaces the last
// details by those of each heartbeat, so the details of the user's last attempt
// are sent again, undecoded.
func heartbeat(ctx context.Context, info activity.Info) {
	if info.HeartbeatTimeout <= 0 {
		return
	}
	activity.RecordHeartbeat(ctx, lastDetails(ctx)...)
}

// maxDetails is how many heartbeat details are carried over; the SDK gives no
// count.
const maxDetails = 16

func lastDetails(ctx context.Context) []any {
	if !activity.HasHeartbeatDetails(ctx) {
		return nil
	}
	raw := make([]converter.RawValue, maxDetails)
	targets := make([]any, maxDetails)
	for i := range raw {
		targets[i] = &raw[i]
	}
	if err := activity.GetHeartbeatDetails(ctx, targets...); err != nil {
		return nil
	}
	var details []any
	for _, r := range raw {
		if r.Payload() == nil {
			break
		}
		details = append(details, r)
	}
	return details
}

// workflowLockKey is the default of Options.LockKey.
func workflowLockKey(info activity.Info) (string, error) {
	if info.WorkflowExecution.ID == "" {
		return "", errNoWorkflow
	}
	key := keys.Escape(info.Namespace) + "/" + info.WorkflowExecution.ID
	if len(key) > keys.MaxIDBytes {
		sum := sha256.Sum256([]byte(key))
		return "sha256/" + hex.EncodeToString(sum[:]), nil
	}
	return key, nil
}
