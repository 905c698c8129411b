//go:build integration

package e2e

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// Where the histories of race come from. Those of a pause are of one run.
const (
	// lastRelease was recorded by the release that shaped no options (commit
	// 8e94dba); -record cannot make it anew.
	lastRelease    = "last-release"
	withoutPlugin  = "without-plugin"
	beforePause    = "before-a-pause"
	held           = "while-activities-are-held"
	betweenRetries = "between-retries"
	afterPause     = "after-a-pause"
)

func goldenRace(name string) string { return filepath.Join("testdata", "race", name+".json") }

// Histories with racing signals and selectors, from before, during and after a
// pause, of the last release and of a worker without the plugin, replay with and
// without it.
func TestHistoriesOfPausesReplay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{lastRelease, withoutPlugin, beforePause, held, betweenRetries, afterPause} {
		for _, plugged := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " with the plugin", false: " without the plugin"}[plugged], func(t *testing.T) {
				t.Parallel()
				r := newReplayer(t, plugged)
				r.RegisterWorkflow(race)
				if err := r.ReplayWorkflowHistoryFromJSONFile(quiet, goldenRace(name)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A pause adds no event to a history, and takes none away: what the server waits
// for is the same. What was there at any time of it replays with and without the
// plugin.
func TestAPauseAddsNoEvents(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	calm := raceCalmly(ctx, t)
	cuts := racePaused(ctx, t)
	if got, want := kinds(t, cuts[afterPause]), kinds(t, calm); !maps.Equal(got, want) {
		t.Errorf("with a pause the events are %v; without, %v", got, want)
	}
	cuts[withoutPlugin] = calm
	for name, h := range cuts {
		for _, plugged := range []bool{true, false} {
			r := newReplayer(t, plugged)
			r.RegisterWorkflow(race)
			if err := r.ReplayWorkflowHistory(quiet, h); err != nil {
				t.Errorf("%s, plugin %v: %v", name, plugged, err)
			}
		}
		if *record {
			writeHistory(t, h, goldenRace(name))
		}
	}
}

// kinds counts the events, but for those of workflow tasks: how many signals and
// results one of them brings is a matter of time.
func kinds(t *testing.T, h *history.History) map[enums.EventType]int {
	t.Helper()
	n := map[enums.EventType]int{}
	for _, ev := range h.GetEvents() {
		n[ev.GetEventType()]++
	}
	for _, kind := range []enums.EventType{enums.EVENT_TYPE_WORKFLOW_TASK_FAILED, enums.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT} {
		if n[kind] > 0 {
			t.Errorf("%d events are %v", n[kind], kind)
		}
	}
	for _, kind := range []enums.EventType{
		enums.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, enums.EVENT_TYPE_WORKFLOW_TASK_STARTED, enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
	} {
		delete(n, kind)
	}
	return n
}

// raceCalmly is race on plain Temporal.
func raceCalmly(ctx context.Context, t *testing.T) *history.History {
	t.Helper()
	s := newPlainStage(t)
	s.queue = newID()
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(race)
		r.RegisterActivityWithOptions(readWithout, activity.RegisterOptions{Name: "read"})
	})
	r := &runner{s.client, s.start(ctx, t, race, make([]redisstate.Ref, len(pipelineConfigs())))}
	r.began(ctx, t)
	r.during(ctx, t)
	r.say(ctx, t, raceWords[2])
	r.ends(ctx, t)
	return historyOf(ctx, t, s.client, r.run)
}

// racePaused is race with the plugin and an outage in its middle, which finds
// activities held and between two attempts.
func racePaused(ctx context.Context, t *testing.T) map[string]*history.History {
	t.Helper()
	server := redistest.Start(t)
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.Redis.NearCacheBytes = -1 // every config is asked for
		o.Pause.HoldFor = 500 * time.Millisecond
	})
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(race)
		r.RegisterActivityWithOptions(read, activity.RegisterOptions{Name: "read"})
	})
	r := &runner{s.client, s.start(ctx, t, race, s.save(ctx, t, pipelineConfigs()...))}
	r.began(ctx, t)
	cuts := map[string]*history.History{beforePause: historyOf(ctx, t, s.client, r.run)}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	r.during(ctx, t)
	r.pending(ctx, t, "activities are held", isHeld)
	cuts[held] = historyOf(ctx, t, s.client, r.run)
	r.pending(ctx, t, "activities are between two attempts", func(a *workflowpb.PendingActivityInfo) bool {
		return a.GetState() == enums.PENDING_ACTIVITY_STATE_SCHEDULED && a.GetAttempt() > 1
	})
	r.say(ctx, t, raceWords[2])
	r.saw(ctx, t, raceWords[2])
	cuts[betweenRetries] = historyOf(ctx, t, s.client, r.run)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	r.ends(ctx, t)
	cuts[afterPause] = historyOf(ctx, t, s.client, r.run)
	return cuts
}

func isHeld(a *workflowpb.PendingActivityInfo) bool {
	_, holds := interceptors.Holding(a.GetHeartbeatDetails(), a.GetAttempt())
	return holds
}

// pending waits until an activity of the run is like this.
func (r *runner) pending(ctx context.Context, t *testing.T, what string, is func(*workflowpb.PendingActivityInfo) bool) {
	t.Helper()
	untilPending(ctx, t, r.client, r.run, what, is)
}

func untilPending(ctx context.Context, t *testing.T, c client.Client, run client.WorkflowRun, what string, is func(*workflowpb.PendingActivityInfo) bool) {
	t.Helper()
	eventually(ctx, t, what, func() bool {
		described, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		return err == nil && slices.ContainsFunc(described.GetPendingActivities(), is)
	})
}
