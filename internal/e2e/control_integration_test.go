//go:build integration

package e2e

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// steered waits for one activity and counts the signals that come meanwhile.
func steered(ctx workflow.Context, ref redisstate.Ref, wait bool, beat time.Duration) (int, error) {
	heard := 0
	if err := workflow.SetQueryHandler(ctx, "heard", func() (int, error) { return heard, nil }); err != nil {
		return 0, err
	}
	options := compozys
	options.WaitForCancellation, options.HeartbeatTimeout = wait, beat
	call := interceptors.WithConfig(workflow.WithActivityOptions(ctx, options), ref)
	var failed error
	waiting, selector := true, workflow.NewSelector(ctx)
	selector.AddFuture(workflow.ExecuteActivity(call, "read"), func(f workflow.Future) {
		waiting, failed = false, f.Get(ctx, nil)
	})
	selector.AddReceive(workflow.GetSignalChannel(ctx, "word"), func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		heard++
	})
	for waiting {
		selector.Select(ctx)
	}
	return heard, failed
}

// While Redis is away and an activity is held, a workflow is in people's hands:
// signals, queries, cancellation and termination work, and the last two end the
// hold, long before it would end by itself.
func TestPeopleSteerAWorkflowInAPause(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	server, registry := redistest.Start(t), prometheus.NewRegistry()
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.Redis.NearCacheBytes = -1
		o.Pause.HoldFor = 4 * bound // no hold ends by itself
		o.Registerer, o.Logger = registry, slog.New(slog.DiscardHandler)
	})
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(steered)
		r.RegisterActivityWithOptions(read, activity.RegisterOptions{Name: "read"})
	})
	ref := s.save(ctx, t, pipelineConfigs()...)[0]
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	begin := func(t *testing.T, wait bool, beat time.Duration) client.WorkflowRun {
		t.Helper()
		run := s.start(ctx, t, steered, ref, wait, beat)
		untilPending(ctx, t, s.client, run, "the activity is held", isHeld)
		return run
	}
	cancel := func(t *testing.T, run client.WorkflowRun) {
		t.Helper()
		if err := s.client.CancelWorkflow(ctx, run.GetID(), run.GetRunID()); err != nil {
			t.Fatal(err)
		}
		asked := time.Now()
		if err := run.Get(ctx, nil); !temporal.IsCanceledError(err) {
			t.Errorf("it ended with %v", err)
		}
		t.Logf("cancelled after %v", time.Since(asked).Round(time.Millisecond))
	}
	cancelActivity := func(t *testing.T, beat time.Duration) {
		t.Helper()
		run := begin(t, true, beat)
		cancel(t, run)
		if n := kinds(t, historyOf(ctx, t, s.client, run))[enums.EVENT_TYPE_ACTIVITY_TASK_CANCELED]; n != 1 {
			t.Errorf("%d activities were cancelled", n)
		}
	}
	var all sync.WaitGroup // most of the time is waiting
	for name, do := range map[string]func(*testing.T){
		"a signal is heard and a query answered": func(t *testing.T) {
			run := begin(t, false, 0)
			if err := s.client.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), "word", "x"); err != nil {
				t.Fatal(err)
			}
			var heard int
			eventually(ctx, t, "the signal is heard", func() bool {
				answer, err := s.client.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), "heard")
				return err == nil && answer.Get(&heard) == nil && heard == 1
			})
			untilPending(ctx, t, s.client, run, "the activity is held still", func(a *workflowpb.PendingActivityInfo) bool {
				return isHeld(a) && a.GetAttempt() == 1
			})
			cancel(t, run)
		},
		"cancellation ends a workflow that does not wait": func(t *testing.T) { cancel(t, begin(t, false, 0)) },
		"cancellation reaches a held activity":            func(t *testing.T) { cancelActivity(t, 0) },
		"cancellation reaches one that heartbeats":        func(t *testing.T) { cancelActivity(t, 30*time.Second) },
		"termination ends a workflow": func(t *testing.T) {
			run := begin(t, false, 0)
			if err := s.client.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "by hand"); err != nil {
				t.Fatal(err)
			}
			if err := run.Get(ctx, nil); !errors.As(err, new(*temporal.TerminatedError)) {
				t.Errorf("it ended with %v", err)
			}
		},
	} {
		all.Go(func() { t.Run(name, do) })
	}
	all.Wait()
	eventually(ctx, t, "the slots are given back while Redis is away", func() bool {
		return metric(t, registry, "redis_activities_holding", "") == 0
	})
	if n := metric(t, registry, "redis_outages_total", "configs"); n != 1 {
		t.Errorf("%v outages were counted", n)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
}

// metric is the sum of a metric's values, of one client if that is given.
func metric(t *testing.T, from prometheus.Gatherer, name, ofClient string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			is := family.GetName() == name && ofClient == ""
			for _, label := range m.GetLabel() {
				is = is || family.GetName() == name && label.GetName() == "client" && label.GetValue() == ofClient
			}
			if is {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
