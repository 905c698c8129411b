package interceptors

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

var (
	errLocalLock = errors.New("a local activity cannot hold a lock: waiting for it would block the workflow task; " +
		"run it as a regular activity, or set Policy.Lock to Off")
	errPendingLock = errors.New("activity.ErrResultPending under a lock: the work would go on after the lease; " +
		"finish the work before returning, or set Policy.Lock to Off")
	errNoKey = errors.New("this worker's Options.LockKeys have no such function; " +
		"give it one, as the worker that scheduled the activity has")
	errNoWorkflow = errors.New("the activity has no workflow to lock; set Options.LockKey, or Policy.Lock to Off")
)

// lock runs the rest of the chain under the workflow's lease, or under the leases
// that the policy's key function names. The context it passes on dies with any of
// them, with locking.ErrLost as its cause, and a result that arrives after that is
// used only if nobody else was granted in between.
func (w *workerInterceptor) lock(ctx context.Context, c *call, next handler) (any, error) {
	if c.policy.Lock != On {
		return next(ctx)
	}
	if c.info.IsLocalActivity {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errLocalLock))
	}
	resources, err := w.resources(c)
	switch {
	case errors.Is(err, errNoKey):
		w.options.Logger.ErrorContext(ctx, "an activity cannot be locked by this worker", "op", "lock", "family", "lock",
			"activity_type", c.info.ActivityType.Name, "error", err)
		return nil, temporal.NewApplicationErrorWithOptions(err.Error(), LockKeyUnknown,
			temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: w.retryDelay(c.info)})
	case err != nil:
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, err))
	}
	held, err := w.acquire(ctx, c, resources)
	switch {
	case c.unwanted != nil:
		return nil, c.answer(ctx, err, c.unwanted, false)
	case errors.Is(err, locking.ErrInvalidResource): // of the key function
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, err))
	case isContention(err):
		return nil, c.unlessUnwanted(ctx, err)
	case err != nil:
		return nil, err
	}
	asked := false
	defer func() {
		if !asked { // the user's code panicked, or may not have had a lease
			_ = w.releaseAll(ctx, held)
		}
	}()
	w.publishAttempt(ctx, c, notifier.StatusRunning, "")

	bound, stop := bindAll(locking.NewContext(ctx, held...), held)
	defer stop()
	result, err := next(bound)
	if errors.Is(err, activity.ErrResultPending) {
		return nil, invalidPolicy(fmt.Errorf("activity type %q: %w", c.info.ActivityType.Name, errPendingLock))
	}
	// The release is the last question to Redis whether the lease was ours to
	// the end: nothing may have noticed a flush since the last renewal.
	lost := firstLoss(held)
	if lost == nil {
		asked, lost = true, w.releaseAll(ctx, held)
	}
	if !errors.Is(lost, locking.ErrLost) && !errors.Is(lost, locking.ErrNotHeld) {
		return result, err
	}
	if err == nil && !asked {
		asked = true
		if w.stands(ctx, c, held) {
			return result, nil
		}
	}
	if cause := context.Cause(ctx); err != nil && temporal.IsCanceledError(cause) {
		return nil, cause // it was cancelled, whatever became of the lease
	}
	// The user's own error goes in as text: it is often that of the context
	// that the loss ended, and must not be taken for a cancellation.
	if err != nil {
		lost = fmt.Errorf("%w; the activity said: %s", lost, reasonOf(err))
	}
	return nil, temporal.NewApplicationErrorWithOptions(
		"the lease was lost while the activity ran; its result is not used", LeaseLost,
		temporal.ApplicationErrorOptions{Cause: lost, NextRetryDelay: w.retryDelay(c.info)})
}

// acquire waits for the leases, until Redis is known to be away: a Redis that says
// nothing would keep the attempt for longer than that takes to be known, and meanwhile
// it would look as if somebody held the lock. The hold is the place to wait then. It
// also ends when the server says that the attempt is not wanted, which the call notes.
func (w *workerInterceptor) acquire(ctx context.Context, c *call, resources []string) ([]*locking.Lease, error) {
	waiting, stop := context.WithCancelCause(ctx)
	defer w.watch(waiting, c, stop)()
	var asking *wanted // once there is a wait
	held, err := locking.AcquireAll(waiting, c.res.Locks, resources, append(w.acquireOptions(ctx, c), locking.WithWaitCallback(func(locking.Waiting) {
		if asking == nil {
			asking = c.ask(ctx, w.options.jitter, func() { stop(errUnwanted) })
		}
	}))...)
	if asking != nil {
		asking.end()
	}
	switch cause := context.Cause(waiting); {
	case err == nil:
		return held, nil
	case errors.Is(cause, errUnwanted): // also if ctx ended meanwhile
		c.unwanted = asking.why
		return nil, fmt.Errorf("interceptors: lock: %w: %w", locking.ErrNotAcquired, cause)
	case ctx.Err() == nil && errors.Is(cause, redisstate.ErrUnavailable):
		return nil, fmt.Errorf("interceptors: lock: %w", cause)
	}
	return nil, err
}

// errUnwanted is why a wait for a lock ends that nobody wants any more.
var errUnwanted = errors.New("the server says that the attempt is canceled, paused, reset or over")

// watch ends waiting by stop when Redis is away, where the attempt may hold then. What
// it returns ends waiting and the watch.
func (w *workerInterceptor) watch(waiting context.Context, c *call, stop context.CancelCauseFunc) (end func()) {
	health := c.health()
	if health == nil || !w.mayHold(c) {
		return func() { stop(nil) }
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for changed := health.Changed(); health.Available(); changed = health.Changed() {
			select {
			case <-changed:
			case <-waiting.Done():
				return
			}
		}
		stop(redisstate.ErrUnavailable)
	}()
	return func() {
		stop(nil)
		<-watched
	}
}

// resources are what a call locks.
func (w *workerInterceptor) resources(c *call) ([]string, error) {
	if c.policy.LockKey == "" {
		resource, err := w.options.LockKey(c.info)
		return []string{resource}, err
	}
	key := w.options.LockKeys[c.policy.LockKey]
	if key == nil {
		return nil, fmt.Errorf("Policy.LockKey is %q: %w", c.policy.LockKey, errNoKey)
	}
	resources, err := key(c.info)
	if err == nil && len(resources) == 0 {
		err = fmt.Errorf("the key function %q names nothing to lock; name a resource, or set Policy.Lock to Off", c.policy.LockKey)
	}
	return resources, err
}

// bindAll makes a context that ends with the first lease that does.
func bindAll(ctx context.Context, held []*locking.Lease) (context.Context, func()) {
	bound, cancel := context.WithCancelCause(ctx)
	stops := make([]func() bool, len(held))
	for i, lease := range held {
		stops[i] = context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })
	}
	return bound, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}

func firstLoss(held []*locking.Lease) error {
	for _, lease := range held {
		if err := lease.Err(); err != nil {
			return err
		}
	}
	return nil
}

// againWait bounds how long a lost lease that another holds is asked for again.
const againWait = 2 * time.Second

// stands takes the leases that were lost once more, and tells whether nobody else was
// granted them in between, and the others were held to the end: then the result is as
// good as if all had been. It gives all of them back.
func (w *workerInterceptor) stands(ctx context.Context, c *call, held []*locking.Lease) bool {
	var mine []*locking.Lease // to the end
	follows := true
	for i, lease := range held {
		if slices.Contains(held[:i], lease) {
			continue
		}
		if lease.Err() == nil {
			mine = append(mine, lease)
			continue
		}
		next, err := c.res.Locks.Acquire(ctx, lease.Resource(), append(w.acquireOptions(ctx, c), locking.WithWait(againWait))...)
		if err != nil {
			follows = false
			break
		}
		mine = append(mine, next)
		if follows = next.Follows(lease); !follows {
			break
		}
	}
	kept := w.releaseAll(ctx, mine)
	_ = w.releaseAll(ctx, held) // what is left of them after a break
	return follows && kept == nil
}

// acquireOptions bounds the wait by the option and by half of the time the
// attempt has left, so that user code keeps the other half, and the lease by
// the attempt's deadline.
func (w *workerInterceptor) acquireOptions(ctx context.Context, c *call) []locking.Option {
	wait := w.options.LockWait
	var opts []locking.Option
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(c.before(ctx)), 0))
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

// releaseAll gives leases back, the last one first. Of their errors it tells one that
// says that a lease was lost, if there is one.
func (w *workerInterceptor) releaseAll(ctx context.Context, held []*locking.Lease) (told error) {
	for _, lease := range slices.Backward(held) {
		if err := w.release(ctx, lease); told == nil || errors.Is(err, locking.ErrNotHeld) {
			told = err
		}
	}
	return told
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
