//go:build integration

package e2e

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// guarded runs one activity under a lock, once.
func guarded(ctx workflow.Context, policy interceptors.Policy, beat time.Duration) error {
	o := compozys
	o.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1}
	o.HeartbeatTimeout, o.WaitForCancellation = beat, true
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, o), "only")
	return workflow.ExecuteActivity(interceptors.WithPolicy(ctx, policy), "count").Get(ctx, nil)
}

// barred is a run of guarded whose activity waits for a lock that the test has.
type barred struct {
	*stage
	run     client.WorkflowRun
	worker  sdkworker.Worker
	lease   *locking.Lease
	entered atomic.Int32
}

func bar(ctx context.Context, t *testing.T, policy interceptors.Policy, beat time.Duration, change func(*worker.Options), dial ...grpc.DialOption) *barred {
	t.Helper()
	b := &barred{}
	b.stage = newStage(t, redistest.Start(t).URL(), func(o *worker.Options) {
		o.Logger = slog.New(slog.DiscardHandler)
		if change != nil {
			change(o)
		}
	}, dial...)
	b.worker = b.serve(t)
	locks, err := b.plugin.Locks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := newID()
	if b.lease, err = locks.Acquire(ctx, "default/"+id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.lease.Release(context.Background()) })
	b.run = b.startAs(ctx, t, id, guarded, policy, beat)
	eventually(ctx, t, "the activity waits for the lock", func() bool {
		held, err := locks.List(ctx)
		return err == nil && len(held) == 1 && held[0].Waiters == 1
	})
	return b
}

func (b *barred) serve(t *testing.T) sdkworker.Worker {
	t.Helper()
	one := sdkworker.Options{MaxConcurrentActivityExecutionSize: 1} // where it stops, no poll is open that could take the next attempt along
	return b.workWith(t, one, func(r sdkworker.Registry) {
		r.RegisterWorkflow(guarded)
		r.RegisterActivityWithOptions(func(context.Context) error {
			b.entered.Add(1)
			return nil
		}, activity.RegisterOptions{Name: "count"})
	})
}

// open gives the lock back.
func (b *barred) open(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
}

// A worker that stops while its activity waits for a lock has used none of its attempts.
func TestWorkerThatStopsWhileItWaitsForALockUsesNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	b := bar(ctx, t, interceptors.Critical, 0, nil)
	b.worker.Stop()
	b.open(ctx, t)
	b.serve(t)
	if err := b.run.Get(ctx, nil); err != nil || b.entered.Load() != 1 {
		t.Errorf("%v after %d entries; want one, on the next worker", err, b.entered.Load())
	}
	hub, err := b.plugin.Subscriber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	events, err := hub.Read(ctx, b.run.GetID(), 0, 0)
	if err != nil || len(events) == 0 {
		t.Fatal(len(events), err)
	}
	for _, ev := range events {
		if ev.Status == notifier.StatusCanceled {
			t.Errorf("nobody cancelled it, and it is told %+v", ev)
		}
	}
}

// heldBack keeps heartbeats from the server until they may go.
type heldBack struct {
	from     atomic.Bool
	asked    chan struct{}
	released chan struct{}
}

func (h *heldBack) intercept(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, beats := in.(*workflowservice.RecordActivityTaskHeartbeatRequest); beats && h.from.Load() {
		select {
		case h.asked <- struct{}{}:
		default:
		}
		select {
		case <-h.released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return invoke(ctx, method, in, out, conn, opts...)
}

// A process that ends when its worker has stopped takes nothing with it that the next
// attempt has to know.
func TestWorkerHasStoppedWhenItsAttemptsHaveSaidTheirLastWord(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	held := &heldBack{asked: make(chan struct{}, 1), released: make(chan struct{})}
	b := bar(ctx, t, interceptors.Critical, 0, nil, grpc.WithChainUnaryInterceptor(held.intercept))
	held.from.Store(true)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.worker.Stop()
	}()
	select {
	case <-held.asked:
	case <-ctx.Done():
		t.Fatal("the attempt says nothing")
	}
	select {
	case <-stopped:
		t.Error("the worker stops before the server has heard of the attempt")
	case <-time.After(time.Second):
	}
	close(held.released)
	select {
	case <-stopped:
	case <-ctx.Done():
		t.Fatal("the worker does not stop")
	}
	untilPending(ctx, t, b.client, b.run, "the attempt is none of the user's", func(a *workflowpb.PendingActivityInfo) bool {
		return len(a.GetHeartbeatDetails().GetPayloads()) == 1
	})
}

// A lock that is held for longer than LockWait, and again, uses none of the attempts of
// which there is one.
func TestLockThatIsHeldForLongUsesNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	b := bar(ctx, t, interceptors.Critical, 0, func(o *worker.Options) {
		o.LockWait, o.RetryDelay = 300*time.Millisecond, 10*time.Millisecond
	})
	untilPending(ctx, t, b.client, b.run, "three waits are over", func(a *workflowpb.PendingActivityInfo) bool { return a.GetAttempt() > 3 })
	if n := b.entered.Load(); n != 0 {
		t.Errorf("its code was entered %d times", n)
	}
	b.open(ctx, t)
	if err := b.run.Get(ctx, nil); err != nil || b.entered.Load() != 1 {
		t.Errorf("%v after %d entries; want one, when the lock is free", err, b.entered.Load())
	}
}

// A worker hears of a cancellation by heartbeats, which an activity without a time-out
// for them does not send. The wait asks itself, and ends long before its time.
func TestCancelInAWaitForALockEndsAsCanceled(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	const wait = 2 * time.Minute
	b := bar(ctx, t, interceptors.Critical, 0, func(o *worker.Options) { o.LockWait = wait })
	canceled := time.Now()
	if err := b.client.CancelWorkflow(ctx, b.run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	if err := b.run.Get(ctx, nil); !temporal.IsCanceledError(err) || b.entered.Load() != 0 {
		t.Errorf("%v after %d entries; want a cancellation", err, b.entered.Load())
	}
	if took := time.Since(canceled); took > wait/2 {
		t.Errorf("it heard of it after %s", took)
	}
	if n := kinds(t, historyOf(ctx, t, b.client, b.run))[enums.EVENT_TYPE_ACTIVITY_TASK_CANCELED]; n != 1 {
		t.Errorf("%d activities were canceled", n)
	}
}

// An operator who pauses an activity in its wait ends that, and it is no attempt of the
// user's, also where what Redis refuses counts as one.
func TestPauseOfAnOperatorInAWaitForALockUsesNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	b := bar(ctx, t, interceptors.Critical, 0, func(o *worker.Options) {
		o.LockWait, o.Pause.Retry = 10*time.Minute, interceptors.Off
	})
	operator, execution := b.client.WorkflowService(), &commonpb.WorkflowExecution{WorkflowId: b.run.GetID()}
	if _, err := operator.PauseActivity(ctx, &workflowservice.PauseActivityRequest{
		Namespace: "default", Execution: execution, Activity: &workflowservice.PauseActivityRequest_Type{Type: "count"},
	}); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the wait ends", func() bool {
		described, err := b.client.DescribeWorkflowExecution(ctx, b.run.GetID(), "")
		return err == nil && len(described.GetPendingActivities()) == 1 &&
			described.GetPendingActivities()[0].GetState() == enums.PENDING_ACTIVITY_STATE_PAUSED
	})
	b.open(ctx, t)
	if _, err := operator.UnpauseActivity(ctx, &workflowservice.UnpauseActivityRequest{
		Namespace: "default", Execution: execution, Activity: &workflowservice.UnpauseActivityRequest_Type{Type: "count"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.run.Get(ctx, nil); err != nil || b.entered.Load() != 1 {
		t.Errorf("%v after %d entries; want one, once it may go on", err, b.entered.Load())
	}
}

// Waiting for a lock heartbeats also where outages are left to Temporal: else the server
// gives the attempt up while it waits.
func TestWaitForALockHeartbeatsWithoutPauses(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	b := bar(ctx, t, interceptors.Policy{Lock: interceptors.On, Pause: interceptors.Off}, 30*time.Second, nil)
	untilPending(ctx, t, b.client, b.run, "it has sent a heartbeat", func(a *workflowpb.PendingActivityInfo) bool {
		return a.GetLastHeartbeatTime() != nil && a.GetAttempt() == 1
	})
	b.open(ctx, t)
	if err := b.run.Get(ctx, nil); err != nil || b.entered.Load() != 1 {
		t.Errorf("%v after %d entries; want one", err, b.entered.Load())
	}
}

// hurried gives its activity little time, of which the queue takes none.
func hurried(ctx workflow.Context, ref redisstate.Ref) error {
	o := compozys
	o.StartToCloseTimeout, o.ScheduleToStartTimeout, o.ScheduleToCloseTimeout = 0, 0, hurry
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 3}
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, o), "only")
	return workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), "twice").Get(ctx, nil)
}

const hurry = 6 * time.Second

// The time in the queue, which is long where a gate was closed, stays left out of
// schedule-to-close when an attempt of the user's has failed.
func TestTimeInTheQueueIsLeftOutInEveryAttempt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func() error{
		"after an error": func() error { return temporal.NewApplicationError("as planned", "Planned") },
		"after a panic":  func() error { panic("as planned") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			s := newStage(t, redistest.Start(t).URL(), func(o *worker.Options) { o.Logger = slog.New(slog.DiscardHandler) })
			var entered atomic.Int32
			s.workWith(t, sdkworker.Options{LocalActivityWorkerOnly: true}, func(r sdkworker.Registry) { r.RegisterWorkflow(hurried) })
			run := s.start(ctx, t, hurried, s.save(ctx, t, pipelineConfigs()...)[0])
			untilPending(ctx, t, s.client, run, "it has waited for longer than its time", func(a *workflowpb.PendingActivityInfo) bool {
				return time.Since(a.GetScheduledTime().AsTime()) > hurry+time.Second
			})
			s.workWith(t, sdkworker.Options{DisableWorkflowWorker: true}, func(r sdkworker.Registry) {
				r.RegisterActivityWithOptions(func(context.Context) error {
					if entered.Add(1) == 1 {
						return fails()
					}
					return nil
				}, activity.RegisterOptions{Name: "twice"})
			})
			if err := run.Get(ctx, nil); err != nil || entered.Load() != 2 {
				t.Errorf("%v after %d entries; want a success of the second", err, entered.Load())
			}
		})
	}
}
