//go:build integration

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// compozys are Compozy's activity options, with which a short outage of Redis
// fails a workflow.
var compozys = workflow.ActivityOptions{
	StartToCloseTimeout:    5 * time.Minute,
	ScheduleToStartTimeout: time.Minute,
	ScheduleToCloseTimeout: 6 * time.Minute,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 3,
	},
}

// Tasks of the workflow that an outage hits, by where it finds them.
const (
	inUserCode = 3 // in user code, one of them under the lock
	inQueue    = 3 // waiting for the lock
	beforehand = 6 // scheduled while Redis is away
)

// troubled runs all of them and tells how many were done.
func troubled(ctx workflow.Context, refs []redisstate.Ref) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, compozys)
	var futures []workflow.Future
	schedule := func(n int, task string, ref redisstate.Ref, p interceptors.Policy) {
		for i := range n {
			call := interceptors.WithTask(interceptors.WithConfig(ctx, ref), fmt.Sprint(task, i))
			futures = append(futures, workflow.ExecuteActivity(interceptors.WithPolicy(call, p), "step", task))
		}
	}
	schedule(inUserCode-1, "inside", refs[0], interceptors.Policy{})
	schedule(1+inQueue, "locked", refs[1], interceptors.Critical)
	workflow.GetSignalChannel(ctx, "away").Receive(ctx, nil)
	schedule(beforehand/2, "later", refs[2], interceptors.Policy{})
	schedule(beforehand/2, "later-locked", refs[2], interceptors.Critical)
	done := 0
	for _, f := range futures {
		if err := f.Get(ctx, nil); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// troubles is what the attempts of troubled went through.
type troubles struct {
	mu       sync.Mutex
	changed  chan struct{}
	begun    map[string]int // attempts that reached the worker, by task group
	entered  map[string]int // entries into user code
	again    int            // entries that were not the first by their own count
	rejected map[string]int // attempts that ended with an error, by type
	times    []time.Time    // of entries
	away     bool
	leave    chan struct{} // closed when those in user code may go on
}

func newTroubles() *troubles {
	return &troubles{
		changed: make(chan struct{}), begun: map[string]int{}, entered: map[string]int{}, rejected: map[string]int{},
		leave: make(chan struct{}),
	}
}

func (tr *troubles) note(do func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	do()
	close(tr.changed)
	tr.changed = make(chan struct{})
}

func (tr *troubles) count(task string) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.entered[task]
}

// until waits for what is noted.
func (tr *troubles) until(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	for {
		tr.mu.Lock()
		changed, now := tr.changed, is()
		tr.mu.Unlock()
		if now {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%v before %s; begun %v, entered %v", context.Cause(ctx), what, tr.begun, tr.entered)
		}
	}
}

func (tr *troubles) step(ctx context.Context, task string) error {
	if _, err := activities.Config[stepConfig](ctx); err != nil {
		return err
	}
	first := true
	tr.note(func() {
		first = !tr.away && (task == "inside" || tr.entered[task] == 0)
		tr.entered[task]++
		if activity.GetInfo(ctx).Attempt != 1 {
			tr.again++
		}
		if tr.away {
			tr.times = append(tr.times, time.Now())
		}
	})
	if first { // and so in user code when Redis goes away
		select {
		case <-tr.leave:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// watcher is an interceptor around the plugin's.
type watcher struct {
	interceptor.WorkerInterceptorBase
	tr *troubles
}

func (w *watcher) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &watching{tr: w.tr}
	in.Next = next
	return in
}

type watching struct {
	interceptor.ActivityInboundInterceptorBase
	tr *troubles
}

func (w *watching) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	task, _ := in.Args[0].(string)
	w.tr.note(func() { w.tr.begun[task]++ })
	result, err := w.Next.ExecuteActivity(ctx, in)
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // what Temporal gets
		w.tr.note(func() { w.tr.rejected[app.Type()]++ })
	} else if err != nil {
		w.tr.note(func() { w.tr.rejected[fmt.Sprintf("%T", err)]++ })
	}
	return result, err
}

// An outage of Redis pauses a workflow with Compozy's activity options and fails
// nothing: user code is entered as often as without it.
func TestOutagePausesAWorkflow(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // most of the time is waiting
	for how, fault := range map[string]struct {
		begin func(*redistest.Server)
		end   func(context.Context, *redistest.Server) error
	}{
		"kill -9": {(*redistest.Server).Kill, func(ctx context.Context, s *redistest.Server) error { return s.Restart(ctx) }},
		"SIGSTOP": {func(s *redistest.Server) { _ = s.Pause() }, func(_ context.Context, s *redistest.Server) error { return s.Resume() }},
	} {
		for _, long := range outageLengths() {
			all.Go(func() {
				t.Run(fmt.Sprint(how, " ", long), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), long+bound)
					defer cancel()
					server := redistest.Start(t, redistest.WithPersistence())
					tr := newTroubles()
					run := begin(ctx, t, server, tr, nil)
					hit := run.hit()
					tr.note(func() { tr.away = true })
					fault.begin(server)
					begun := time.Now()
					if err := run.signal(ctx); err != nil {
						t.Fatal(err)
					}
					tr.until(ctx, t, "attempts met the outage", func() bool { return tr.begun["later"] > 0 && tr.begun["later-locked"] > 0 })
					close(tr.leave)
					// A silence of a second is over before anybody knows of it.
					known := how != "SIGSTOP" || long > time.Second
					hit.before, hit.held = run.sit(t, begun.Add(long), known)
					if err := fault.end(ctx, server); err != nil {
						t.Fatal(err)
					}
					back := answers(ctx, t, server)
					run.check(ctx, t)
					tr.report(t, hit, back)
					if hit.inside == 0 || hit.queued == 0 || hit.before == 0 || hit.held == 0 && known {
						t.Errorf("the outage hit %+v, so that this test shows less than it says", hit)
					}
				})
			})
		}
	}
	all.Wait()
}

// outageLengths are how long Redis is away. Whether replays come from the sticky
// cache makes no difference to activities that wait: the run without it, beside
// the one with it, leaves out the longest.
func outageLengths() []time.Duration {
	if _, cold := devserver.StickyCacheSize(); cold {
		return []time.Duration{time.Second, 15 * time.Second}
	}
	return []time.Duration{time.Second, 15 * time.Second, 90 * time.Second}
}

// outageRun is a workflow that is where the outage is to find it.
type outageRun struct {
	stage    *stage
	run      client.WorkflowRun
	tr       *troubles
	registry *prometheus.Registry
}

// hit is where an outage found attempts.
type hit struct {
	inside int // in user code
	queued int // waiting for the lock
	before int // on their way to user code, when it ended
	held   int // of all that were not in user code, the most that held at one time
}

// hit counts those whom an outage that begins now finds.
func (r *outageRun) hit() (h hit) {
	r.tr.mu.Lock()
	defer r.tr.mu.Unlock()
	h.inside = r.tr.entered["inside"] + r.tr.entered["locked"]
	h.queued = r.tr.begun["locked"] - r.tr.entered["locked"]
	return h
}

// sit waits in an outage and counts those whom it stops.
func (r *outageRun) sit(t *testing.T, until time.Time, holds bool) (before, held int) {
	t.Helper()
	late := until.Add(10 * time.Second) // on a machine that is busy when the first is to be held
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for time.Now().Before(until) || holds && held == 0 && time.Now().Before(late) {
		<-look.C
		held = max(held, int(metric(t, r.registry, "redis_activities_holding", "")))
	}
	r.tr.mu.Lock()
	defer r.tr.mu.Unlock()
	// None of these may be entered meanwhile, so that each has begun at least once.
	for _, task := range []string{"later", "later-locked"} {
		if r.tr.begun[task] > 0 {
			before += beforehand/2 - r.tr.entered[task]
		}
	}
	return before, held
}

func begin(ctx context.Context, t *testing.T, server *redistest.Server, tr *troubles, change func(*worker.Options)) *outageRun {
	t.Helper()
	registry := prometheus.NewRegistry()
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.Registerer = registry
		o.Redis.NearCacheBytes = -1 // every config is asked for
		o.Logger = slog.New(slog.DiscardHandler)
		if change != nil {
			change(o)
		}
	})
	w := newWorker(s.client, s.queue, sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{&watcher{tr: tr}}})
	w.RegisterWorkflow(troubled)
	w.RegisterActivityWithOptions(tr.step, activity.RegisterOptions{Name: "step"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	run := s.start(ctx, t, troubled, s.save(ctx, t, pipelineConfigs()...))
	tr.until(ctx, t, "the tasks were where the outage is to find them", func() bool {
		return tr.entered["inside"] == inUserCode-1 && tr.entered["locked"] == 1 && tr.begun["locked"] == 1+inQueue
	})
	return &outageRun{s, run, tr, registry}
}

func (r *outageRun) signal(ctx context.Context) error {
	return r.stage.client.SignalWorkflow(ctx, r.run.GetID(), r.run.GetRunID(), "away", nil)
}

func (r *outageRun) check(ctx context.Context, t *testing.T) {
	t.Helper()
	var done int
	if err := r.run.Get(ctx, &done); err != nil || done != inUserCode+inQueue+beforehand {
		t.Fatalf("%d tasks are done, %v", done, err)
	}
	r.tr.mu.Lock()
	defer r.tr.mu.Unlock()
	want := map[string]int{"inside": inUserCode - 1, "locked": 1 + inQueue, "later": beforehand / 2, "later-locked": beforehand / 2}
	for task, n := range want {
		if r.tr.entered[task] != n {
			t.Errorf("user code of %s was entered %d times; want %d", task, r.tr.entered[task], n)
		}
	}
	if r.tr.again > 0 {
		t.Errorf("%d attempts of the user's were not their first", r.tr.again)
	}
}

// report prints where the outage found the tasks, and how soon they went on.
func (tr *troubles) report(t *testing.T, h hit, back time.Time) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var after []time.Duration
	for _, at := range tr.times {
		after = append(after, at.Sub(back).Round(time.Millisecond))
	}
	slices.Sort(after)
	t.Logf("%d in user code, %d in the queue of the lock, %d before user code; up to %d of them held; attempts given back %v; user code entered after Redis answered: %v",
		h.inside, h.queued, h.before, h.held, tr.rejected, after)
}

// answers waits until Redis does, and tells when that was.
func answers(ctx context.Context, t *testing.T, server *redistest.Server) time.Time {
	t.Helper()
	options := server.Options()
	options.MaxRetries, options.ContextTimeoutEnabled = -1, true
	c := redis.NewClient(options)
	defer c.Close()
	for {
		if c.Ping(ctx).Err() == nil {
			return time.Now()
		}
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}
}
