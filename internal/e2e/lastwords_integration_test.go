//go:build integration

package e2e

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// silent is a worker whose log tests do not look at.
func silent(o *worker.Options) { o.Logger = slog.New(slog.DiscardHandler) }

// pausable runs one activity under a lock, once.
func pausable(ctx workflow.Context, limit time.Duration) error {
	o := compozys
	o.StartToCloseTimeout = limit
	o.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1}
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, o), "only")
	return workflow.ExecuteActivity(interceptors.WithPolicy(ctx, interceptors.Critical), "count").Get(ctx, nil)
}

// An operator pauses an activity, whose last attempt then fails and has not heard of it.
func TestPauseThatAnAttemptDidNotHearOfComesBeforeTheLimits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit time.Duration
		fails func(ctx context.Context, released <-chan struct{}) error
	}{
		"after an error": {limit: time.Minute, fails: func(context.Context, <-chan struct{}) error { return errors.New("as planned") }},
		"after a panic":  {limit: time.Minute, fails: func(context.Context, <-chan struct{}) error { panic("as planned") }},
		"out of time": {limit: 3 * time.Second, fails: func(ctx context.Context, _ <-chan struct{}) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		"out of time, and deaf": {limit: 3 * time.Second, fails: func(_ context.Context, released <-chan struct{}) error {
			<-released
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			s := newStage(t, redistest.Start(t).URL(), silent)
			var entered atomic.Int32
			began, goOn, released := make(chan struct{}), make(chan struct{}), make(chan struct{})
			s.work(t, func(r sdkworker.Registry) {
				r.RegisterWorkflow(pausable)
				r.RegisterActivityWithOptions(func(ctx context.Context) error {
					if entered.Add(1) > 1 {
						return nil
					}
					close(began)
					<-goOn
					return test.fails(ctx, released)
				}, activity.RegisterOptions{Name: "count"})
			})
			run := s.start(ctx, t, pausable, test.limit)
			<-began
			operator, execution := s.client.WorkflowService(), &commonpb.WorkflowExecution{WorkflowId: run.GetID()}
			if _, err := operator.PauseActivity(ctx, &workflowservice.PauseActivityRequest{
				Namespace: "default", Execution: execution, Activity: &workflowservice.PauseActivityRequest_Type{Type: "count"},
			}); err != nil {
				t.Fatal(err)
			}
			close(goOn)
			untilPending(ctx, t, s.client, run, "it is paused", func(a *workflowpb.PendingActivityInfo) bool {
				return a.GetState() == enums.PENDING_ACTIVITY_STATE_PAUSED
			})
			close(released)
			if _, err := operator.UnpauseActivity(ctx, &workflowservice.UnpauseActivityRequest{
				Namespace: "default", Execution: execution, Activity: &workflowservice.UnpauseActivityRequest_Type{Type: "count"},
			}); err != nil {
				t.Fatal(err)
			}
			if err := run.Get(ctx, nil); err != nil || entered.Load() != 2 {
				t.Errorf("%v after %d entries; want two, the second once it may go on", err, entered.Load())
			}
		})
	}
}

// What an attempt leaves to the next is what its heartbeats said when they were sent.
func TestHeartbeatDetailsAreThoseOfTheHeartbeat(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), silent)
	s.workWith(t, sdkworker.Options{LocalActivityWorkerOnly: true}, func(r sdkworker.Registry) { r.RegisterWorkflow(hurried) })
	run := s.start(ctx, t, hurried, s.save(ctx, t, pipelineConfigs()...)[0])
	untilPending(ctx, t, s.client, run, "it has waited", func(a *workflowpb.PendingActivityInfo) bool {
		return time.Since(a.GetScheduledTime().AsTime()) > 2*time.Second
	})
	type progress struct{ Next int }
	var found atomic.Int32
	s.workWith(t, sdkworker.Options{DisableWorkflowWorker: true}, func(r sdkworker.Registry) {
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			if activity.HasHeartbeatDetails(ctx) {
				var p progress
				err := activity.GetHeartbeatDetails(ctx, &p)
				found.Store(int32(p.Next))
				return err
			}
			p := &progress{Next: 6}
			activity.RecordHeartbeat(ctx, p)
			p.Next = 7 // and fails at that
			return errors.New("as planned")
		}, activity.RegisterOptions{Name: "twice"})
	})
	if err := run.Get(ctx, nil); err != nil || found.Load() != 6 {
		t.Errorf("%v; the second attempt begins at %d, want 6", err, found.Load())
	}
}

// beating runs one critical activity that hears of its cancellation by heartbeats.
func beating(ctx workflow.Context, _ redisstate.Ref) error {
	o := compozys
	o.HeartbeatTimeout, o.WaitForCancellation = 5*time.Second, true
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, o), "only")
	return workflow.ExecuteActivity(interceptors.WithPolicy(ctx, interceptors.Critical), "beats").Get(ctx, nil)
}

// A cancellation stays one when the lease is lost, too.
func TestCancelOfAnActivityWhoseLeaseIsLostEndsAsCanceled(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	redis := redistest.Start(t)
	control := redis.Client(t)
	s := newStage(t, redis.URL(), silent)
	began := make(chan struct{})
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(beating)
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			close(began)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				activity.RecordHeartbeat(ctx)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
			return errors.Join(ctx.Err(), control.FlushAll(context.WithoutCancel(ctx)).Err())
		}, activity.RegisterOptions{Name: "beats"})
	})
	run := s.start(ctx, t, beating, redisstate.Ref{})
	<-began
	if err := s.client.CancelWorkflow(ctx, run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); !temporal.IsCanceledError(err) {
		t.Errorf("it ended with %v; want a cancellation", err)
	}
}
