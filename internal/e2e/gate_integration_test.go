//go:build integration

package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/worker"
)

// The gate itself is tested in package worker; here what opens and closes it is
// a redis-server. The test is not parallel: it measures time.
func TestWorkerOfAGatedTaskQueueTakesNoTasksWhileRedisIsAway(t *testing.T) {
	ctx := bounded(t)
	server := redistest.Start(t)
	registry := prometheus.NewRegistry()
	queue := newID()
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.Registerer, o.GatedTaskQueues = registry, []string{queue}
	})
	s.queue = queue
	began := make(chan time.Time, 2*width)
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(wide)
		r.RegisterActivityWithOptions(func(context.Context) error {
			began <- time.Now()
			return nil
		}, activity.RegisterOptions{Name: "begin"})
	})
	s.start(ctx, t, wide)
	awaitTasks(ctx, t, began, width) // so that polls are out
	server.Kill()
	eventually(ctx, t, "the outage is found", func() bool { return !ready(ctx, s.plugin) })
	run := s.start(ctx, t, wide)
	eventually(ctx, t, "all polls wait at the gate", func() bool { return gauge(t, registry, "redis_paused_polls") == worker.DefaultActivityPollers })
	select { // no poll is out; what came begins, and nothing follows
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
	}
	leaked := len(began)
	if leaked > worker.DefaultActivityPollers {
		t.Fatalf("%d of %d tasks were taken, by %d polls that were out", leaked, width, worker.DefaultActivityPollers)
	}
	awaitTasks(ctx, t, began, leaked)
	server.MustRestart(t)
	back := time.Now()
	eventually(ctx, t, "all polls are let through", func() bool { return gauge(t, registry, "redis_paused_polls") == 0 })
	took := time.Since(back)
	if took > time.Second {
		t.Errorf("the last poll was let through %v after Redis was back", took)
	}
	last := awaitTasks(ctx, t, began, width-leaked).Sub(back) // what the server takes to hand them out is its own affair
	t.Logf("%d of %d tasks were taken by polls that were out; %v after Redis was back all polls were let through, after %v the last of the others began",
		leaked, width, took.Round(time.Millisecond), last.Round(time.Millisecond))
	if err := run.Get(ctx, nil); err != nil {
		t.Error(err)
	}
}

// awaitTasks returns when the last of n activities began.
func awaitTasks(ctx context.Context, t *testing.T, began <-chan time.Time, n int) (last time.Time) {
	t.Helper()
	for range n {
		select {
		case last = <-began:
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	return last
}

// ready asks /readyz.
func ready(ctx context.Context, plugin *worker.Plugin) bool {
	recorder := httptest.NewRecorder()
	plugin.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
	return recorder.Code == http.StatusOK
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// eventually waits for what tells of itself to nobody.
func eventually(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v", what, ctx.Err())
		}
	}
}
