//go:build integration

package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// lonely runs one task that needs its config, with Compozy's options.
func lonely(ctx workflow.Context, ref redisstate.Ref) error {
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, compozys), "only")
	return workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), "step", "later").Get(ctx, nil)
}

// lonelyOn starts lonely on a worker whose Redis is already away.
func lonelyOn(ctx context.Context, t *testing.T, change func(*worker.Options)) (*stage, client.WorkflowRun, *troubles, *faultproxy.Proxy) {
	t.Helper()
	s, run, tr, proxy, _ := lonelyWorker(ctx, t, lonely, change)
	return s, run, tr, proxy
}

func lonelyWorker(ctx context.Context, t *testing.T, flow func(workflow.Context, redisstate.Ref) error, change func(*worker.Options)) (
	*stage, client.WorkflowRun, *troubles, *faultproxy.Proxy, sdkworker.Worker,
) {
	t.Helper()
	proxy := faultproxy.Start(t, redistest.Start(t).Addr())
	s := newStage(t, "redis://"+proxy.Addr(), func(o *worker.Options) {
		o.Redis.MaxRetries = -1
		o.Redis.NearCacheBytes = -1
		o.Logger = slog.New(slog.DiscardHandler)
		change(o)
	})
	tr := newTroubles()
	close(tr.leave)
	tr.away = true
	w := lonelyStart(t, s, tr, flow)
	t.Cleanup(func() { _ = proxy.Heal() }) // before the worker's stop
	refs := s.save(ctx, t, pipelineConfigs()...)
	proxy.Random(1, faultproxy.Chaos{ResetCommand: 1})
	handler := s.plugin.Handler()
	eventually(ctx, t, "the worker knows that Redis is away", func() bool {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
		return recorder.Code == http.StatusServiceUnavailable
	})
	return s, s.start(ctx, t, flow, refs[0]), tr, proxy, w
}

func lonelyStart(t *testing.T, s *stage, tr *troubles, flow func(workflow.Context, redisstate.Ref) error) sdkworker.Worker {
	t.Helper()
	w := newWorker(s.client, s.queue, sdkworker.Options{
		Interceptors:                       []interceptor.WorkerInterceptor{&watcher{tr: tr}},
		MaxHeartbeatThrottleInterval:       500 * time.Millisecond, // a cancellation is heard by heartbeats
		MaxConcurrentActivityExecutionSize: 1,                      // where it stops, no poll is open that could take the next attempt along
	})
	w.RegisterWorkflow(flow)
	w.RegisterActivityWithOptions(tr.step, activity.RegisterOptions{Name: "step"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// once gives its only task one attempt, and waits for it when it is canceled.
func once(ctx workflow.Context, ref redisstate.Ref) error {
	o := compozys
	o.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1}
	o.HeartbeatTimeout, o.WaitForCancellation = 30*time.Second, true
	ctx = interceptors.WithTask(workflow.WithActivityOptions(ctx, o), "only")
	return workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), "step", "later").Get(ctx, nil)
}

// A worker that stops while its activity holds has used none of its attempts.
func TestWorkerThatStopsInAHoldUsesNoAttempt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s, run, tr, proxy, w := lonelyWorker(ctx, t, once, func(*worker.Options) {})
	pausedLive(ctx, t, s, run.GetID())
	w.Stop()
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	lonelyStart(t, s, tr, once)
	if err := run.Get(ctx, nil); err != nil || tr.count("later") != 1 {
		t.Errorf("%v after %d entries; want one, on the next worker", err, tr.count("later"))
	}
}

// A workflow that is canceled while its activity holds ends as canceled.
func TestCancelInAHoldEndsAsCanceled(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s, run, tr, _, _ := lonelyWorker(ctx, t, once, func(*worker.Options) {})
	pausedLive(ctx, t, s, run.GetID())
	if err := s.client.CancelWorkflow(ctx, run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); !temporal.IsCanceledError(err) || tr.count("later") != 0 {
		t.Errorf("%v after %d entries; want a cancellation", err, tr.count("later"))
	}
}

// brief are holds that give up soon, so that the layers behind them are asked.
func brief(o *worker.Options) { o.Pause.HoldFor = 50 * time.Millisecond }

// Each layer of a pause does something that is missed without it.
func TestLayersOfAPause(t *testing.T) {
	t.Parallel()
	cases := map[string]func(ctx context.Context, t *testing.T){
		"what the process has is served without Redis": func(ctx context.Context, t *testing.T) {
			_, run, tr, _ := lonelyOn(ctx, t, func(o *worker.Options) { o.Redis.NearCacheBytes = 0 })
			if err := run.Get(ctx, nil); err != nil || tr.entered["later"] != 1 || tr.begun["later"] != 1 {
				t.Errorf("%v after %d attempts; want one, while Redis is away", err, tr.begun["later"])
			}
		},
		"without the near cache it waits": func(ctx context.Context, t *testing.T) {
			s, run, tr, proxy := lonelyOn(ctx, t, func(*worker.Options) {})
			pausedLive(ctx, t, s, run.GetID())
			if entered := tr.count("later"); entered != 0 {
				t.Error("user code was entered while Redis was away")
			}
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			if err := run.Get(ctx, nil); err != nil || tr.begun["later"] != 1 {
				t.Errorf("%v after %d attempts; want one, held in its slot", err, tr.begun["later"])
			}
		},
		"without hold it is tried again": func(ctx context.Context, t *testing.T) {
			_, run, tr, proxy := lonelyOn(ctx, t, func(o *worker.Options) { o.Pause.Hold = interceptors.Off })
			tr.until(ctx, t, "it was given back thrice", func() bool { return tr.rejected[interceptors.RedisUnavailable] == 3 })
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			if err := run.Get(ctx, nil); err != nil || tr.entered["later"] != 1 {
				t.Errorf("%v after %d entries; want one, in a later attempt", err, tr.entered["later"])
			}
		},
		"with attempts it outlives three of the user's": func(ctx context.Context, t *testing.T) {
			_, run, tr, proxy := lonelyOn(ctx, t, brief)
			tr.until(ctx, t, "it was given back four times", func() bool { return tr.rejected[interceptors.RedisUnavailable] == 4 })
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			if err := run.Get(ctx, nil); err != nil || tr.entered["later"] != 1 {
				t.Errorf("%v after %d entries; want one", err, tr.entered["later"])
			}
		},
		"without attempts three are the end": func(ctx context.Context, t *testing.T) {
			_, run, tr, _ := lonelyOn(ctx, t, func(o *worker.Options) { brief(o); o.Pause.Attempts = interceptors.Off })
			if err := run.Get(ctx, nil); err == nil || tr.begun["later"] != 3 {
				t.Errorf("%v after %d attempts; want a failure after 3", err, tr.begun["later"])
			}
		},
		"without retry an outage is the user's own failure": func(ctx context.Context, t *testing.T) {
			_, run, tr, _ := lonelyOn(ctx, t, func(o *worker.Options) { brief(o); o.Pause.Retry = interceptors.Off })
			if err := run.Get(ctx, nil); err == nil || tr.begun["later"] != 3 || tr.rejected[interceptors.RedisUnavailable] != 0 {
				t.Errorf("%v after %d attempts, given back %v; want a failure after 3", err, tr.begun["later"], tr.rejected)
			}
		},
	}
	var all sync.WaitGroup // most of the time is waiting
	for name, test := range cases {
		all.Go(func() { t.Run(name, func(t *testing.T) { test(bounded(t), t) }) })
	}
	all.Wait()
}

// pausedLive waits until Temporal tells that the task is paused for Redis: Redis
// cannot.
func pausedLive(ctx context.Context, t *testing.T, s *stage, id string) {
	t.Helper()
	source := worker.NewStatusSource(s.client, nil)
	for {
		states, err := source.States(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range states {
			if ev.TaskID == "only" && ev.Status == notifier.StatusPaused && ev.Reason == "redis" {
				return
			}
		}
	}
}
