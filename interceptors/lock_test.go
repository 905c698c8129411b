package interceptors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/locking"
)

// locksOn is one more manager of locks on the server.
func locksOn(t *testing.T, server *miniredis.Miniredis) *locking.Manager {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	m, err := locking.New(client, locking.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(context.Background()), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// critical is an attempt of an activity that takes the lock of its workflow, and the
// steps around the user's code.
func critical(t *testing.T, locks locking.LockManager, o Options) (c *call, run func(context.Context, handler) (any, error)) {
	t.Helper()
	o.Logger, o.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	made, err := NewWorker(struct{ Host }{}, o)
	if err != nil {
		t.Fatal(err)
	}
	w := made.(*workerInterceptor) //nolint:forcetypeassert // NewWorker returns nothing else
	c = &call{
		info: activity.Info{
			ActivityType: activity.Type{Name: "act"}, Namespace: "default",
			WorkflowExecution: workflow.Execution{ID: "order-17"}, Attempt: 1,
		},
		policy: Policy{Config: Off, Lock: On, Status: Off, Pause: On}, res: Resources{Locks: locks},
		began: time.Now(), details: &details{},
	}
	return c, func(ctx context.Context, user handler) (any, error) {
		for _, link := range slices.Backward(w.steps) {
			next := user
			user = func(ctx context.Context) (any, error) { return link(ctx, c, next) }
		}
		return user(ctx)
	}
}

// lockOfOrder is what critical locks.
const lockOfOrder = "default/order-17"

// notedWait are locks of which the first wait is noted, and given up.
type notedWait struct {
	locking.LockManager
	giveUp context.CancelFunc
	wait   time.Duration // 0: there was none
}

func (n *notedWait) Acquire(ctx context.Context, resource string, opts ...locking.Option) (*locking.Lease, error) {
	return n.LockManager.Acquire(ctx, resource, append(opts, locking.WithWaitCallback(func(w locking.Waiting) {
		n.wait = w.Remaining
		n.giveUp()
	}))...)
}

// Who waits for its lock for the whole attempt, and gets it then, has no time to use it.
func TestAWaitForALockLeavesUserCodeItsTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		option  time.Duration // LockWait
		left    time.Duration // of the attempt; 0: no bound
		attempt time.Duration // its time-out, as the server knows it
		limits  *limits
		want    time.Duration
	}{
		"half of what is left":                       {option: time.Hour, left: time.Hour, want: 30 * time.Minute},
		"the option, where half is longer":           {option: 10 * time.Minute, left: time.Hour, want: 10 * time.Minute},
		"the option, where the attempt has no bound": {option: time.Hour, want: time.Hour},
		"nothing, where no time is left":             {option: time.Hour, left: -time.Second},
		"what the attempt was given for it": {
			option: time.Hour, left: 50 * time.Minute, attempt: 50*time.Minute + overrunSlack,
			limits: &limits{StartToClose: 10 * time.Minute}, want: 40 * time.Minute,
		},
		"what it was given for it, where the whole is bounded": {
			option: time.Hour, left: 50 * time.Minute, attempt: 50*time.Minute + overrunSlack,
			limits: &limits{ScheduleToClose: 45 * time.Minute}, want: 5 * time.Minute,
		},
		"half, where it was given nothing for it": {
			option: time.Hour, left: 20 * time.Minute, attempt: 20 * time.Minute,
			limits: &limits{StartToClose: 20 * time.Minute}, want: 10 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			held, err := locksOn(t, server).Acquire(t.Context(), lockOfOrder)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.left != 0 {
				ctx, cancel = context.WithTimeout(ctx, test.left)
				defer cancel()
			}
			locks := &notedWait{LockManager: locksOn(t, server), giveUp: cancel}
			c, run := critical(t, locks, Options{LockWait: test.option})
			c.info.StartToCloseTimeout, c.env.Limits = test.attempt, test.limits
			if _, err := run(ctx, func(context.Context) (any, error) { return nil, errors.New("entered") }); err == nil || err.Error() == "entered" {
				t.Errorf("it ends with %v while another holds the lock", err)
			}
			// It was counted from a moment ago, and that of a slow machine.
			if locks.wait > test.want || locks.wait < test.want-time.Minute {
				t.Errorf("it waits for %v; want %v", locks.wait, test.want)
			}
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// An activity that is cancelled after it lost its lease is over: it is not tried again, as
// one that lost it is.
func TestACancellationAfterALossStaysOne(t *testing.T) {
	t.Parallel()
	failed := errors.New("no money")
	for name, test := range map[string]struct {
		unseen  bool  // until the release
		first   bool  // the cancellation is, and the loss comes then
		why     error // the context ended; nil: it did not
		returns func(ctx context.Context) error
		lost    bool // it ends with LeaseLost
	}{
		"its code says that the context ended":         {why: temporal.NewCanceledError(), returns: context.Context.Err},
		"its code says why the context ended":          {why: temporal.NewCanceledError(), returns: context.Cause},
		"its code says something else":                 {why: temporal.NewCanceledError(), returns: func(context.Context) error { return failed }},
		"its code says that it is cancelled":           {why: temporal.NewCanceledError(), returns: func(context.Context) error { return temporal.NewCanceledError() }},
		"its code fails for good":                      {why: temporal.NewCanceledError(), returns: func(context.Context) error { return temporal.NewNonRetryableApplicationError("no", "No", nil) }},
		"the release finds the loss":                   {why: temporal.NewCanceledError(), unseen: true, returns: context.Context.Err},
		"the release finds it, and the code failed":    {why: temporal.NewCanceledError(), unseen: true, returns: func(context.Context) error { return failed }},
		"the cancellation came first":                  {why: temporal.NewCanceledError(), first: true, returns: context.Context.Err},
		"it is lost only":                              {returns: context.Context.Err, lost: true},
		"it is lost only, and the code failed":         {returns: func(context.Context) error { return failed }, lost: true},
		"its worker stops":                             {why: context.Canceled, returns: context.Context.Err, lost: true},
		"its code says of itself that it is cancelled": {returns: func(context.Context) error { return temporal.NewCanceledError() }, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			_, run := critical(t, locksOn(t, server), Options{})
			result, err := run(ctx, func(ctx context.Context) (any, error) {
				if test.first {
					cancel(test.why)
				}
				server.FlushAll()
				if lease, _ := locking.FromContext(ctx); !test.unseen {
					if err := lease.Renew(t.Context()); !errors.Is(err, locking.ErrNotHeld) {
						t.Errorf("renewed: %v", err)
					}
					<-ctx.Done()
				}
				if test.why != nil {
					cancel(test.why)
					<-ctx.Done()
				}
				return "done", test.returns(ctx)
			})
			app, isApp := errors.AsType[*temporal.ApplicationError](err)
			if test.lost != (isApp && app.Type() == LeaseLost) || test.lost == temporal.IsCanceledError(err) || result != nil {
				t.Errorf("it ends with %v, %v (%T)", result, err, err)
			}
		})
	}
}
