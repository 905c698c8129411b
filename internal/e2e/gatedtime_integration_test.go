//go:build integration

package e2e

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/worker"
)

// What an attempt waits at a slot gate is no time of the activity's, also if one of the
// user's came before: then nothing that was left behind says so.
func TestTimeAtTheGateIsLeftOutAfterAnAttemptThatFailed(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	server, queue := redistest.Start(t), newID()
	s := newStage(t, server.URL(), func(o *worker.Options) { o.GatedTaskQueues = []string{queue} })
	s.queue = queue
	var entered atomic.Int32
	fail := make(chan struct{})
	one := sdkworker.Options{MaxConcurrentActivityExecutionSize: 1} // so that no poll is out while the first attempt runs
	s.workWith(t, one, func(r sdkworker.Registry) {
		r.RegisterWorkflow(hurried)
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			if entered.Add(1) > 1 {
				return nil
			}
			select {
			case <-fail:
			case <-ctx.Done():
			}
			return temporal.NewApplicationError("as planned", "Planned")
		}, activity.RegisterOptions{Name: "twice"})
	})
	run := s.start(ctx, t, hurried, s.save(ctx, t, pipelineConfigs()...)[0])
	eventually(ctx, t, "the first attempt runs", func() bool { return entered.Load() == 1 })
	server.Kill()
	eventually(ctx, t, "the outage is found", func() bool { return !ready(ctx, s.plugin) })
	close(fail)
	failed := time.Now()
	untilPending(ctx, t, s.client, run, "the next attempt has waited for longer than the time of all", func(a *workflowpb.PendingActivityInfo) bool {
		return a.GetAttempt() == 2 && time.Since(failed) > hurry+time.Second
	})
	server.MustRestart(t)
	if err := run.Get(ctx, nil); err != nil || entered.Load() != 2 {
		t.Errorf("%v after %d entries; want a success of the second", err, entered.Load())
	}
}
