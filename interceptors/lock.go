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
	asked := false
	defer func() {
		if !asked { // the user's code panicked, or may not have had a lease
			_ = w.release(ctx, lease)
		}
	}()
	w.publishAttempt(ctx, c, notifier.StatusRunning, "")

	bound, stop := lease.Bind(ctx)
	defer stop()
	result, err := next(locking.NewContext(bound, lease))
	if errors.Is(err, activity.ErrResultPending) {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errPendingLock))
	}
	// The release is the last question to Redis whether the lease was ours to
	// the end: nothing may have noticed a flush since the last renewal.
	lost := lease.Err()
	if lost == nil {
		asked, lost = true, w.release(ctx, lease)
	}
	if errors.Is(lost, locking.ErrLost) || errors.Is(lost, locking.ErrNotHeld) {
		// The user's own error goes in as text: it is often that of the context
		// that the loss ended, and must not be taken for a cancellation.
		if err != nil {
			lost = fmt.Errorf("%w; the activity said: %s", lost, reasonOf(err))
		}
		return nil, temporal.NewApplicationErrorWithOptions(
			"the lease was lost while the activity ran; its result is not used", LeaseLost,
			temporal.ApplicationErrorOptions{Cause: lost, NextRetryDelay: w.retryDelay(c.info)})
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

// releasePatience is how long a finished activity waits for Redis to confirm
// its release. Past it the result goes out, since the server may time the
// attempt out meanwhile, and the release goes on in the background; the lock
// manager waits for it when it closes.
const releasePatience = 500 * time.Millisecond

// release gives the lease back even if the activity's context has ended. It
// returns what Release returned, or nil when that takes too long.
func (w *workerInterceptor) release(ctx context.Context, lease *locking.Lease) error {
	released := make(chan error, 1)
	go func() {
		err := lease.Release(context.WithoutCancel(ctx))
		if err != nil && !errors.Is(err, locking.ErrNotHeld) {
			w.options.Logger.WarnContext(ctx, "lock not released; it ends by its TTL",
				"op", "release", "family", "lock", "error", err)
		}
		released <- err
	}()
	patience := time.NewTimer(releasePatience)
	defer patience.Stop()
	select {
	case err := <-released:
		return err
	case <-patience.C:
		return nil
	}
}

// heartbeat keeps a waiting activity alive. The server replaces the last
// details by those of each heartbeat, so the details of the user's last attempt
// are sent again, undecoded.
func heartbeat(ctx context.Context, info activity.Info) {
	if info.HeartbeatTimeout <= 0 {
		return
	}
	if details, ok := lastDetails(ctx); ok {
		activity.RecordHeartbeat(ctx, details...)
	}
}

// maxDetails is how many heartbeat details are carried over; the SDK gives no
// count.
const maxDetails = 64

// lastDetails is false when there are details that cannot be carried over: the
// host's data converter does not know raw values. Then no heartbeat is better
// than one that erases them.
func lastDetails(ctx context.Context) (details []any, ok bool) {
	if !activity.HasHeartbeatDetails(ctx) {
		return nil, true
	}
	raw := make([]converter.RawValue, maxDetails)
	targets := make([]any, maxDetails)
	for i := range raw {
		targets[i] = &raw[i]
	}
	if err := activity.GetHeartbeatDetails(ctx, targets...); err != nil {
		return nil, false
	}
	for _, r := range raw {
		if r.Payload() == nil {
			break
		}
		details = append(details, r)
	}
	return details, len(details) > 0
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
