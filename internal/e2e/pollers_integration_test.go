//go:build integration

package e2e

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// stall is a silence between two tasks of a fan-out that tells one in which a
// task waited for 2 s, at a partition of its task queue that no poll was on, from
// one that is slow from end to end.
const stall = 1500 * time.Millisecond

// width is more tasks than partitions may forward in a second.
const width = 20

// wide schedules activities at once.
func wide(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	var all []workflow.Future
	for range width {
		all = append(all, workflow.ExecuteActivity(ctx, "begin"))
	}
	for _, one := range all {
		if err := one.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// Servers before 1.31 match tasks and polls in this way, with 4 partitions. The
// test is not parallel: it measures time.
func TestPollersOfThePluginKeepAFanOutFromStalling(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := devserver.Start(ctx, devserver.Options{DynamicConfig: map[string]string{
		"matching.useNewMatcher":              "false",
		"system.enableActivityEagerExecution": "false",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	run := func(t *testing.T, keep bool, runs int, until func(time.Duration) bool) []time.Duration {
		t.Helper()
		fanOut := newFanOut(t, server.Addr(), keep)
		var longest []time.Duration
		for len(longest) < runs {
			longest = append(longest, fanOut(ctx, t))
			if until(longest[len(longest)-1]) {
				break
			}
		}
		t.Logf("KeepPollers=%t: %d runs with silences of up to %v", keep, len(longest), longest)
		return longest
	}
	// Two of five runs stall, by where the polls of a worker happen to wait: each worker
	// keeps its polls, so that another one gets its chance after some runs.
	t.Run("with the SDK's pollers it stalls", func(t *testing.T) {
		stalled := func(silence time.Duration) bool { return silence >= stall }
		for range 10 {
			if slices.ContainsFunc(run(t, true, 6, stalled), stalled) {
				return
			}
		}
		t.Error("none did, so that this test shows nothing about the other pollers")
	})
	t.Run("with the plugin's it does not", func(t *testing.T) {
		if longest := run(t, false, 10, func(time.Duration) bool { return false }); slices.Max(longest) >= stall {
			t.Errorf("a run stalled for %v", slices.Max(longest))
		}
	})
}

// newFanOut starts a worker and returns what runs wide once and measures the
// longest silence between two of its activities. It does not wait for the
// workflow's end, which a client may miss and then hear of 20 s later.
func newFanOut(t *testing.T, address string, keepPollers bool) func(context.Context, *testing.T) time.Duration {
	t.Helper()
	plugin, err := worker.NewPlugin(worker.Options{
		Redis:       redisstate.Options{URL: "embedded://" + uuid.NewString()},
		Environment: func(string) (string, bool) { return "", false },
		Registerer:  prometheus.NewRegistry(),
		Logger:      slog.New(slog.DiscardHandler),
		KeepPollers: keepPollers,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(client.Options{HostPort: address, Logger: quiet, ConnectionOptions: devserver.Connection(), Plugins: []client.Plugin{plugin}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := plugin.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	began := make(chan time.Time, width)
	s := &stage{plugin: plugin, client: c, queue: newID()}
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(wide)
		r.RegisterActivityWithOptions(func(context.Context) error {
			began <- time.Now()
			return nil
		}, activity.RegisterOptions{Name: "begin"})
	})
	return func(ctx context.Context, t *testing.T) (longest time.Duration) {
		t.Helper()
		s.start(ctx, t, wide)
		var last time.Time
		for i := range width {
			select {
			case at := <-began:
				if i > 0 {
					longest = max(longest, at.Sub(last).Round(time.Millisecond))
				}
				last = at
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
		}
		return longest
	}
}
