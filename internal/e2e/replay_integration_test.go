//go:build integration

package e2e

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

var record = flag.Bool("record", false, "record the golden histories anew")

// The golden histories: the same workflow run by a worker with the plugin and
// by one without.
const (
	goldenWith    = "testdata/with-plugin.json"
	goldenWithout = "testdata/without-plugin.json"
)

func TestGoldenHistories(t *testing.T) {
	t.Parallel()
	if *record {
		recordWith(t)
		recordWithout(t)
	}
	for _, golden := range []string{goldenWith, goldenWithout} {
		for _, plugged := range []bool{true, false} {
			name := strings.TrimSuffix(filepath.Base(golden), ".json")
			t.Run(name+map[bool]string{true: " replays with the plugin", false: " replays without the plugin"}[plugged], func(t *testing.T) {
				t.Parallel()
				r := newReplayer(t, plugged)
				r.RegisterWorkflow(pipeline)
				if err := r.ReplayWorkflowHistoryFromJSONFile(quiet, golden); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A replayer that accepts anything would make the golden histories worthless.
func TestReplayRefusesAnotherWorkflow(t *testing.T) {
	t.Parallel()
	r := newReplayer(t, true)
	r.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ []redisstate.Ref) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Second})
		return "", workflow.ExecuteActivity(ctx, "fail").Get(ctx, nil) // pipeline begins with read
	}, workflow.RegisterOptions{Name: "pipeline"})
	err := r.ReplayWorkflowHistoryFromJSONFile(quiet, goldenWith)
	if err == nil || !strings.Contains(err.Error(), "TMPRL1100") { // Temporal's code for nondeterminism
		t.Errorf("another workflow replays: %v", err)
	}
}

func newReplayer(t *testing.T, plugged bool) sdkworker.WorkflowReplayer {
	t.Helper()
	var o sdkworker.WorkflowReplayerOptions
	if plugged {
		plugin, err := worker.NewPlugin(worker.Options{
			Redis:       redisstate.Options{URL: "embedded://" + uuid.NewString()},
			Environment: func(string) (string, bool) { return "", false },
			Registerer:  prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Plugins = []sdkworker.Plugin{plugin} // nothing to close: a replay opens nothing
	}
	r, err := sdkworker.NewWorkflowReplayerWithOptions(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func recordWith(t *testing.T) {
	t.Helper()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	s.work(t, registerPipeline)
	run := s.start(ctx, t, pipeline, s.save(ctx, t, pipelineConfigs()...))
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	saveHistory(ctx, t, s.client, run, goldenWith)
}

func recordWithout(t *testing.T) {
	t.Helper()
	ctx := bounded(t)
	c, err := client.Dial(client.Options{HostPort: temporalAddr, Logger: quiet, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &stage{client: c, queue: "record-" + uuid.NewString()}
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(pipeline)
		r.RegisterActivityWithOptions(readWithout, activity.RegisterOptions{Name: "read"})
		r.RegisterActivityWithOptions(fail, activity.RegisterOptions{Name: "fail"})
		r.RegisterActivity(shout)
	})
	run := s.start(ctx, t, pipeline, make([]redisstate.Ref, 3))
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	saveHistory(ctx, t, c, run, goldenWithout)
}

func saveHistory(ctx context.Context, t *testing.T, c client.Client, run client.WorkflowRun, file string) {
	t.Helper()
	writeHistory(t, historyOf(ctx, t, c, run), file)
}

// historyOf is the history of a run as it is now.
func historyOf(ctx context.Context, t *testing.T, c client.Client, run client.WorkflowRun) *history.History {
	t.Helper()
	events := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	h := &history.History{}
	for events.HasNext() {
		ev, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, ev)
	}
	return h
}

func writeHistory(t *testing.T, h *history.History, file string) {
	t.Helper()
	body, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, append(body, '\n'), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}
