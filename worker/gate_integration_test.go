//go:build integration

package worker

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/telemetry"
	"github.com/compozy/temporal-redis/redisstate"
)

func init() { // before the first worker
	if size, ok := devserver.StickyCacheSize(); ok {
		sdkworker.SetStickyWorkflowCacheSize(size)
	}
}

const fan = 20

// fanOut runs fan activities at once.
func fanOut(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	var all []workflow.Future
	for range fan {
		all = append(all, workflow.ExecuteActivity(ctx, "enter"))
	}
	for _, one := range all {
		if err := one.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// notGated runs what needs no slot of the activity worker.
func notGated(ctx workflow.Context) error {
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 5 * time.Second})
	if err := workflow.ExecuteLocalActivity(local, "enter").Get(ctx, nil); err != nil {
		return err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	session, err := workflow.CreateSession(ctx, &workflow.SessionOptions{CreationTimeout: 30 * time.Second, ExecutionTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	defer workflow.CompleteSession(session)
	return workflow.ExecuteActivity(session, "enter").Get(session, nil)
}

// gatedWorker is a worker on a real server, with a gate that the test turns.
type gatedWorker struct {
	sdkworker.Worker

	client  client.Client
	queue   string
	redis   *redisSwitch
	waiting prometheus.Gauge // polls at the gate
	entered chan time.Time
	errors  *errorCount // of the SDK's log
}

func startGatedWorker(t *testing.T, address string, closed bool, options sdkworker.Options) *gatedWorker {
	t.Helper()
	registry := prometheus.NewRegistry()
	tel, err := telemetry.New(telemetry.Config{Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	g := &gatedWorker{
		queue: "gate-" + uuid.NewString(), redis: newRedisSwitch(closed), waiting: tel.Metrics.PausedPolls,
		entered: make(chan time.Time, 2*fan), errors: &errorCount{},
	}
	plugin, err := NewPlugin(Options{
		Redis:           redisstate.Options{URL: "embedded://" + uuid.NewString()},
		Environment:     func(string) (string, bool) { return "", false },
		Registerer:      registry,
		Logger:          slog.New(slog.NewTextHandler(t.Output(), nil)),
		GatedTaskQueues: []string{g.queue},
	})
	if err != nil {
		t.Fatal(err)
	}
	plugin.available = func() interceptors.Availability { return g.redis }
	g.client, err = client.Dial(client.Options{
		HostPort: address, ConnectionOptions: devserver.Connection(), Plugins: []client.Plugin{plugin}, Logger: sdklog.NewStructuredLogger(slog.New(g.errors)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.client.Close()
		if err := plugin.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	options.DeadlockDetectionTimeout = 10 * time.Second // a busy machine is no deadlock
	g.Worker = sdkworker.New(g.client, g.queue, options)
	g.RegisterWorkflow(fanOut)
	g.RegisterWorkflow(notGated)
	g.RegisterActivityWithOptions(func(context.Context) error {
		g.entered <- time.Now()
		return nil
	}, activity.RegisterOptions{Name: "enter"})
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	return g
}

// atGate waits until that many pollers wait at the gate. If these are all, no
// poll is out: what the worker can take by mistake it has taken.
func (g *gatedWorker) atGate(ctx context.Context, t *testing.T, pollers int) {
	t.Helper()
	eventually(ctx, t, "all pollers wait at the gate", func() bool { return testutil.ToFloat64(g.waiting) == float64(pollers) })
}

// eventually waits for what tells of itself to nobody.
func eventually(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
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

func (g *gatedWorker) run(ctx context.Context, t *testing.T, workflow any) client.WorkflowRun {
	t.Helper()
	run, err := g.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: g.queue}, workflow)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// errorCount is the handler of a log that counts errors.
type errorCount struct{ n atomic.Int64 }

func (*errorCount) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (e *errorCount) Handle(context.Context, slog.Record) error {
	e.n.Add(1)
	return nil
}

func (e *errorCount) WithAttrs([]slog.Attr) slog.Handler { return e }

func (e *errorCount) WithGroup(string) slog.Handler { return e }

// halfBusy is a machine on which a resource-based tuner gives slots.
type halfBusy struct{}

func (halfBusy) MemoryUsage(*sdkworker.SysInfoContext) (float64, error) { return .5, nil }

func (halfBusy) CpuUsage(*sdkworker.SysInfoContext) (float64, error) { return .5, nil } //nolint:revive // the SDK's name

// watchedSlots is a host's own supplier that keeps books.
type watchedSlots struct {
	sdkworker.SlotSupplier

	mu      sync.Mutex
	out     int
	used    map[*sdkworker.SlotPermit]bool
	reasons map[int]int // of slots that came back unused
}

func watched(t *testing.T, n int) *watchedSlots {
	t.Helper()
	slots, err := sdkworker.NewFixedSizeSlotSupplier(n)
	if err != nil {
		t.Fatal(err)
	}
	return &watchedSlots{SlotSupplier: slots, used: make(map[*sdkworker.SlotPermit]bool), reasons: make(map[int]int)}
}

func (s *watchedSlots) given(permit *sdkworker.SlotPermit) {
	if permit != nil {
		s.mu.Lock()
		s.out++
		s.mu.Unlock()
	}
}

func (s *watchedSlots) ReserveSlot(ctx context.Context, info sdkworker.SlotReservationInfo) (*sdkworker.SlotPermit, error) {
	permit, err := s.SlotSupplier.ReserveSlot(ctx, info)
	s.given(permit)
	return permit, err
}

func (s *watchedSlots) TryReserveSlot(info sdkworker.SlotReservationInfo) *sdkworker.SlotPermit {
	permit := s.SlotSupplier.TryReserveSlot(info)
	s.given(permit)
	return permit
}

func (s *watchedSlots) MarkSlotUsed(info sdkworker.SlotMarkUsedInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[info.Permit()] = true
	s.SlotSupplier.MarkSlotUsed(info)
}

func (s *watchedSlots) ReleaseSlot(info sdkworker.SlotReleaseInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out--
	if !s.used[info.Permit()] {
		s.reasons[int(info.Reason())]++
	}
	s.SlotSupplier.ReleaseSlot(info)
}

func (s *watchedSlots) givenOut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out
}

func (s *watchedSlots) tuner(t *testing.T) sdkworker.WorkerTuner {
	t.Helper()
	tuner, err := sdkworker.NewCompositeTuner(sdkworker.CompositeTunerOptions{
		WorkflowSlotSupplier: watched(t, 20), ActivitySlotSupplier: s, LocalActivitySlotSupplier: watched(t, 20),
		NexusSlotSupplier: watched(t, 20), SessionActivitySlotSupplier: watched(t, 20),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tuner
}

// The subtests measure time, so they run one after the other.
func TestGateOnARealServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := devserver.Start(ctx, devserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	resources, err := sdkworker.NewResourceBasedTuner(sdkworker.ResourceBasedTunerOptions{
		TargetMem: .9, TargetCpu: .9, InfoSupplier: halfBusy{}, ActivityRampThrottle: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]sdkworker.Options{
		"holds tasks and goes on, with the SDK's slots":                 {},
		"holds tasks and goes on, with three of the host's":             {MaxConcurrentActivityExecutionSize: 3},
		"holds tasks and goes on, with a host's tuner":                  {Tuner: watched(t, 20).tuner(t)},
		"holds tasks and goes on, with a tuner that looks at resources": {Tuner: resources},
	} {
		t.Run(name, func(t *testing.T) { holdsAndGoesOn(ctx, t, server.Addr(), options) })
	}
	t.Run("holds nothing else", func(t *testing.T) { holdsNothingElse(ctx, t, server.Addr()) })
	t.Run("stops at once and gives every slot back", func(t *testing.T) { stopsAtOnce(ctx, t, server.Addr()) })
}

// holdsAndGoesOn closes the gate while every poller has a poll out, each of
// which may still bring a task.
func holdsAndGoesOn(ctx context.Context, t *testing.T, address string, options sdkworker.Options) {
	g := startGatedWorker(t, address, false, options)
	pollers := DefaultActivityPollers
	if n := options.MaxConcurrentActivityExecutionSize; n > 0 {
		pollers = n
	}
	if err := g.run(ctx, t, fanOut).Get(ctx, nil); err != nil { // so that polls are out
		t.Fatal(err)
	}
	for range fan {
		<-g.entered
	}
	g.redis.turn(true)
	run := g.run(ctx, t, fanOut)
	g.atGate(ctx, t, pollers)
	// No poll is out. Half a second lets what came begin, and shows that nothing follows.
	select {
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
	}
	leaked := len(g.entered)
	if leaked > pollers {
		t.Fatalf("%d of %d tasks were taken, by %d polls that were out", leaked, fan, pollers)
	}
	for range leaked {
		<-g.entered
	}
	g.redis.turn(false)
	opened := time.Now()
	eventually(ctx, t, "all polls are let through", func() bool { return testutil.ToFloat64(g.waiting) == 0 })
	if took := time.Since(opened); took > time.Second {
		t.Errorf("the last poll was let through %v after the opening", took)
	}
	var first, last time.Duration // what the server takes to hand them out is its own affair
	for i := range fan - leaked {
		select {
		case at := <-g.entered:
			last = at.Sub(opened)
			if i == 0 {
				first = last
			}
		case <-ctx.Done():
			t.Fatalf("%d of %d tasks came after the outage", i, fan-leaked)
		}
	}
	t.Logf("%d of %d tasks were taken by polls that were out; after the opening the others began within %v to %v",
		leaked, fan, first.Round(time.Millisecond), last.Round(time.Millisecond))
	if err := run.Get(ctx, nil); err != nil {
		t.Error(err)
	}
	if n := g.errors.n.Load(); n > 0 {
		t.Errorf("the SDK told of %d errors", n)
	}
}

// holdsNothingElse runs local activities, workflow tasks and a session.
func holdsNothingElse(ctx context.Context, t *testing.T, address string) {
	g := startGatedWorker(t, address, true, sdkworker.Options{EnableSessionWorker: true})
	g.atGate(ctx, t, DefaultActivityPollers)
	if err := g.run(ctx, t, notGated).Get(ctx, nil); err != nil {
		t.Error(err)
	}
	if n := len(g.entered); n != 2 {
		t.Errorf("%d activities ran", n)
	}
}

// stopsAtOnce stops workers with pollers at the gate, and with polls out for
// comparison.
func stopsAtOnce(ctx context.Context, t *testing.T, address string) {
	for _, closed := range []bool{true, false} {
		slots := watched(t, 20)
		g := startGatedWorker(t, address, closed, sdkworker.Options{Tuner: slots.tuner(t)})
		eventually(ctx, t, "all pollers have a slot", func() bool { return slots.givenOut() == DefaultActivityPollers })
		if closed {
			g.atGate(ctx, t, DefaultActivityPollers)
		}
		start := time.Now()
		g.Stop()
		took := time.Since(start)
		t.Logf("with the gate closed=%t the worker stopped in %v", closed, took.Round(time.Millisecond))
		if closed && took > 5*time.Second { // a poll that is waited for takes a minute
			t.Errorf("the stop took %v", took)
		}
		eventually(ctx, t, "all slots are back", func() bool { return slots.givenOut() == 0 })
		if !maps.Equal(slots.reasons, map[int]int{1: DefaultActivityPollers}) {
			t.Errorf("slots came back unused for reasons %v", slots.reasons)
		}
		if n := g.errors.n.Load(); n > 0 {
			t.Errorf("the SDK told of %d errors", n)
		}
	}
}
