//go:build integration

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
)

func oneStep(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	return workflow.ExecuteActivity(interceptors.WithPolicy(ctx, interceptors.Critical), "step").Get(ctx, nil)
}

// The SDK's stop returns while activities run; the plugin's must not take Redis
// or the lease away from them.
func TestStopOfAWorkerInMidActivity(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	entered, stopped := make(chan struct{}), make(chan struct{})
	inside := make(chan error, 1)
	step := func(ctx context.Context) error {
		close(entered)
		<-activity.GetWorkerStopChannel(ctx) // the stop has begun
		lease, ok := locking.FromContext(ctx)
		if !ok {
			inside <- errors.New("no lease")
			return nil
		}
		select {
		case <-stopped:
			inside <- errors.New("the worker's stop returned under a running activity")
			return nil
		default:
		}
		// ctx may be over by now; the work is finished on a context of its own.
		_, err := activities.SaveConfigs(context.WithoutCancel(ctx), redisstate.Entry{ID: "late", Value: stepConfig{"saved"}})
		inside <- errors.Join(err, context.Cause(lease.Context()))
		return nil
	}
	w := newWorker(s.client, s.queue, sdkworker.Options{})
	w.RegisterWorkflow(oneStep)
	w.RegisterActivityWithOptions(step, activity.RegisterOptions{Name: "step"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	s.start(ctx, t, oneStep)
	<-entered
	w.Stop()
	close(stopped)
	select {
	case err := <-inside:
		if err != nil {
			t.Errorf("inside of the activity: %v", err)
		}
	default:
		t.Error("the stop returned before the activity ended")
	}
}

func TestOneClientServesSeveralWorkers(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	register := func(r sdkworker.Registry) {
		r.RegisterWorkflow(oneStep)
		r.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "step"})
	}
	first := newWorker(s.client, s.queue, sdkworker.Options{})
	register(first)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	s.work(t, register)
	if err := s.start(ctx, t, oneStep).Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	first.Stop() // the other goes on, with Redis open
	if err := s.start(ctx, t, oneStep).Get(ctx, nil); err != nil {
		t.Error(err)
	}
}

// A process that has only a client publishes what its client does.
func TestClientOnlyProcessFlushes(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	server := redistest.Start(t)
	watcher := newStage(t, server.URL(), nil)
	s := newStage(t, server.URL(), nil)
	run := s.start(ctx, t, oneStep) // no worker: it stays PENDING
	if err := s.client.TerminateWorkflow(ctx, run.GetID(), "", "enough"); err != nil {
		t.Fatal(err)
	}
	if err := s.plugin.Close(ctx); err != nil {
		t.Fatal(err)
	}
	events := watcher.watch(ctx, t, run.GetID())()
	if len(events) != 2 || events[0].Status != "PENDING" || events[1].Status != "FAILED" || events[1].RunID != run.GetRunID() || !events[1].Final {
		t.Errorf("events are %+v", events)
	}
}
