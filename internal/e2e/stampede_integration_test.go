//go:build integration

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// crowded is how many activities wait for Redis at once.
const crowded = 200

// crowd runs them side by side.
func crowd(ctx workflow.Context, refs []redisstate.Ref) error {
	ctx = workflow.WithActivityOptions(ctx, compozys)
	var futures []workflow.Future
	for i := range crowded {
		call := interceptors.WithTask(interceptors.WithConfig(ctx, refs[i%len(refs)]), fmt.Sprint("task", i))
		futures = append(futures, workflow.ExecuteActivity(call, "step", "later"))
	}
	for _, f := range futures {
		if err := f.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// What waited for Redis does not run it over when it is back: its commands per
// second stay within twice of those of the same work without an outage.
func TestRecoveryIsNoStampede(t *testing.T) {
	t.Parallel()
	long := time.Minute
	if _, cold := devserver.StickyCacheSize(); cold {
		long = 5 * time.Second // see outageLengths
	}
	ctx, cancel := context.WithTimeout(t.Context(), long+2*bound)
	defer cancel()
	server := redistest.Start(t)
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.Redis.NearCacheBytes = -1
		o.Logger = slog.New(slog.DiscardHandler)
	})
	tr := newTroubles()
	tr.away = true // none waits in user code
	w := newWorker(s.client, s.queue, sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{&watcher{tr: tr}}})
	w.RegisterWorkflow(crowd)
	w.RegisterActivityWithOptions(tr.step, activity.RegisterOptions{Name: "step"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	refs := s.save(ctx, t, pipelineConfigs()...)

	// How fast the usual work goes depends on what else the machine does: so it is
	// measured on both sides of the outage.
	var normal []int
	usual := func() {
		most := commandRate(ctx, t, server)
		if err := s.start(ctx, t, crowd, refs).Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
		normal = append(normal, most())
	}
	usual()
	usual()

	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	run := s.start(ctx, t, crowd, refs)
	tr.until(ctx, t, "all waited", func() bool { return tr.begun["later"] >= 3*crowded })
	<-time.After(time.Until(paused.Add(long)))
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	after := commandRate(ctx, t, server)
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	recovery := after()
	usual()
	usual()
	t.Logf("%d activities after %v without Redis: at most %d commands/s; without an outage %v commands/s (%.2f)",
		crowded, long, recovery, normal, float64(recovery)/float64(slices.Max(normal)))
	if recovery > 2*slices.Max(normal) {
		t.Errorf("Redis saw %d commands/s when it was back, more than twice the usual %v", recovery, normal)
	}
	if tr.count("later") != 5*crowded {
		t.Errorf("user code was entered %d times; want %d", tr.count("later"), 5*crowded)
	}
}

var processed = regexp.MustCompile(`total_commands_processed:(\d+)`)

// commandRate begins to count what Redis is asked; the returned function ends
// it and gives the most commands of any second.
func commandRate(ctx context.Context, t *testing.T, server *redistest.Server) (most func() int) {
	t.Helper()
	const step, window = 100 * time.Millisecond, 10
	control := server.ControlClient(t)
	ask := func() int {
		info, err := control.Info(ctx, "stats").Result()
		if err != nil {
			t.Errorf("INFO: %v", err)
			return 0
		}
		n, _ := strconv.Atoi(processed.FindStringSubmatch(info)[1])
		return n
	}
	stop, done := make(chan struct{}), make(chan int)
	counts := []int{ask()}
	go func() {
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				counts = append(counts, ask())
				continue
			case <-stop:
			}
			break
		}
		highest := 0
		for i, n := range counts {
			highest = max(highest, n-counts[max(i-window, 0)])
		}
		done <- highest
	}()
	return func() int {
		close(stop)
		return <-done
	}
}
