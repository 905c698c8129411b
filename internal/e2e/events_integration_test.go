//go:build integration

package e2e

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
)

// solo runs one section, which is tried again soon.
func solo(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 3 * time.Second})
	return workflow.ExecuteActivity(ctx, "section").Get(ctx, nil)
}

// Three worker processes and a starter publish for one workflow. One of the workers
// stands still in the middle of its attempt, and goes on when another has finished the
// task: what it then says comes late, and changes no state.
func TestStateNeverGoesBack(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	redisURL := redistest.Start(t).URL()
	addr, visits := newGate(t)
	s := newStage(t, redisURL, nil)
	signal := make(map[int]func(syscall.Signal) error)
	// One that stands still must have no poll open: its task would be lost for a while.
	workflows := newWorker(s.client, s.queue, sdkworker.Options{LocalActivityWorkerOnly: true})
	workflows.RegisterWorkflow(solo)
	if err := workflows.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(workflows.Stop)
	for range 3 {
		process := startChild(t, roleSingle, redisURL, s.queue, addr)
		signal[process.Pid] = func(sig syscall.Signal) error { return process.Signal(sig) }
	}
	id := newID()
	hub, err := s.plugin.Subscriber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := hub.Subscribe(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	run := s.startAs(ctx, t, id, solo)
	sleeper := next(ctx, t, visits)
	if err := signal[sleeper.pid](syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = signal[sleeper.pid](syscall.SIGCONT) }()
	again := next(ctx, t, visits)
	again.letOut(t)
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	states := make(map[string]notifier.Event)
	take := func(ev notifier.Event) {
		if ev.Kind != notifier.KindStatus {
			return
		}
		if known, ok := states[ev.TaskKey()]; !ok || ev.Supersedes(known) {
			states[ev.TaskKey()] = ev
		}
	}
	receive := func(until func(notifier.Event) bool) {
		t.Helper()
		for {
			select {
			case ev := <-sub.Events():
				if take(ev); until(ev) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("it does not come; the states are %v", states)
			}
		}
	}
	receive(notifier.Event.EndsWorkflow)
	before := fmt.Sprint(states)

	if err := signal[sleeper.pid](syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	sleeper.letOut(t)
	receive(func(ev notifier.Event) bool { return ev.Attempt == 1 && ev.Status.Terminal() }) // it came, late
	if after := fmt.Sprint(states); after != before {
		t.Errorf("the states were\n%s\nand are\n%s", before, after)
	}
	late, err := hub.Subscribe(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	for range states {
		select {
		case ev := <-late.Events():
			if known := states[ev.TaskKey()]; !ev.Snapshot || !ev.Final || ev.Status != notifier.StatusSuccess || ev.Status != known.Status {
				t.Errorf("the snapshot has %+v", ev)
			}
		case <-ctx.Done():
			t.Fatal("the snapshot is not whole")
		}
	}
}

// Events go on over a fail-over. What that lost is told as a gap, and the last word
// comes.
func TestEventsOverAFailover(t *testing.T) {
	t.Parallel()
	type group interface{ URL() string }
	for name, start := range map[string]func(t *testing.T) (group, func(ctx context.Context) error){
		"sentinel": func(t *testing.T) (group, func(ctx context.Context) error) {
			t.Helper()
			g := redistest.StartSentinel(t)
			return g, func(ctx context.Context) error { _, err := g.Failover(ctx); return err }
		},
		"cluster": func(t *testing.T) (group, func(ctx context.Context) error) {
			t.Helper()
			g := redistest.StartCluster(t)
			return g, func(ctx context.Context) error {
				slot, err := g.Slot(ctx, "workflow:w")
				if err == nil {
					_, _, err = g.KillMaster(ctx, slot)
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			g, failover := start(t)
			s, other := newStage(t, g.URL(), nil), newStage(t, g.URL(), nil)
			publisher, err := s.plugin.Publisher(ctx)
			if err != nil {
				t.Fatal(err)
			}
			hub, err := other.plugin.Subscriber(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sub, err := hub.Subscribe(ctx, "w")
			if err != nil {
				t.Fatal(err)
			}
			stop, published := make(chan struct{}), make(chan int, 1)
			var publishing sync.WaitGroup
			end := sync.OnceFunc(func() { close(stop) })
			t.Cleanup(func() { // also if the test fails, and before the publisher closes
				end()
				publishing.Wait()
			})
			publishing.Go(func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for n := 1; ; n++ {
					if err := publisher.Publish(notifier.Event{WorkflowID: "w", RunID: "r", TaskID: "a", Attempt: int32(n), Status: notifier.StatusRunning}); err != nil {
						t.Error(err)
					}
					select {
					case <-tick.C:
					case <-stop:
						published <- n
						return
					}
				}
			})
			seen, gaps, ended := int32(0), 0, false
			read := func(until func() bool) {
				t.Helper()
				for !until() {
					select {
					case ev := <-sub.Events():
						switch {
						case ev.Kind == notifier.KindGap:
							gaps++
						case ev.OfWorkflow():
							ended = ev.EndsWorkflow()
						case gaps == 0 && ev.Attempt != seen+1:
							t.Fatalf("%d came after %d, and no gap was told", ev.Attempt, seen)
						default:
							seen = max(seen, ev.Attempt)
						}
					case <-ctx.Done():
						t.Fatalf("only %d events came", seen)
					}
				}
			}
			read(func() bool { return seen > 100 })
			if err := failover(ctx); err != nil {
				t.Fatal(err)
			}
			at := seen
			read(func() bool { return seen > at+500 })
			end()
			last := <-published
			if err := publisher.Publish(notifier.Event{WorkflowID: "w", RunID: "r", Status: notifier.StatusSuccess, Final: true}); err != nil {
				t.Fatal(err)
			}
			read(func() bool { return ended })
			if int(seen) != last {
				t.Errorf("the last event is %d; want %d", seen, last)
			}
			t.Logf("%d events, %d gaps", last, gaps)
		})
	}
}
