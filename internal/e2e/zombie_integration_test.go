//go:build integration

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/worker"
)

// visit is a critical section that stays inside until it is let out.
type visit struct {
	pid   int
	fence uint64
	conn  net.Conn
}

func (v visit) letOut(t *testing.T) {
	t.Helper()
	if _, err := fmt.Fprintln(v.conn, "done"); err != nil {
		t.Error(err)
	}
}

// newGate gives the visits of sections that are told its address.
func newGate(t *testing.T) (addr string, visits <-chan visit) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan visit, sections)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			v := visit{conn: conn}
			t.Cleanup(func() { _ = conn.Close() })
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				continue
			}
			if _, err := fmt.Sscan(line, &v.pid, &v.fence); err == nil {
				all <- v
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String(), all
}

func next(ctx context.Context, t *testing.T, visits <-chan visit) visit {
	t.Helper()
	select {
	case v := <-visits:
		return v
	case <-ctx.Done():
		t.Fatal("nobody enters")
		return visit{}
	}
}

// duel runs two critical sections of which each is tried again soon.
func duel(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 4 * time.Second})
	first, second := workflow.ExecuteActivity(ctx, "section"), workflow.ExecuteActivity(ctx, "section")
	if err := first.Get(ctx, nil); err != nil {
		return err
	}
	return second.Get(ctx, nil)
}

// A worker that is killed with the lease keeps it for what is left of the TTL; then
// the other has it, and Temporal runs the lost activity once more.
func TestLeaseOfAWorkerThatIsKilled(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	redisURL := redistest.Start(t).URL()
	addr, visits := newGate(t)
	s := newStage(t, redisURL, func(o *worker.Options) {
		o.Policies = map[string]interceptors.Policy{"section": interceptors.Critical}
		// Temporal notices that a worker is dead by these later than by the time-out.
		o.LockWait, o.Pause.HoldFor = 2*briefTTL, time.Second
	})
	// Workflow tasks are not the victim's: one that it took along would be lost for 10 s.
	s.workWith(t, sdkworker.Options{LocalActivityWorkerOnly: true}, func(r sdkworker.Registry) { r.RegisterWorkflow(duel) })
	workers := make(map[int]*os.Process)
	for range 2 {
		process := startChild(t, roleBrief, redisURL, s.queue, addr)
		workers[process.Pid] = process
	}
	run := s.start(ctx, t, duel)
	first := next(ctx, t, visits)
	if err := workers[first.pid].Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	second := next(ctx, t, visits)
	if took := time.Since(killed); took > briefTTL+time.Second {
		t.Errorf("the next owner came after %s", took)
	}
	second.letOut(t)
	again := next(ctx, t, visits)
	again.letOut(t)
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if second.pid == first.pid || again.pid == first.pid {
		t.Error("the process is not dead")
	}
	if first.fence == 0 || second.fence <= first.fence || again.fence <= second.fence {
		t.Errorf("fences %d, %d, %d", first.fence, second.fence, again.fence)
	}
}

// onward runs one critical section. With continues it does not wait for it, but goes
// on as a new run when it is told to.
func onward(ctx workflow.Context, continues bool) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	section := workflow.ExecuteActivity(ctx, "section")
	if !continues {
		return section.Get(ctx, nil)
	}
	workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
	return workflow.NewContinueAsNewError(ctx, onward, false)
}

// What still runs of a workflow's earlier run keeps the new run out.
func TestLeaseOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(ctx context.Context, t *testing.T, s *stage, run client.WorkflowRun){
		"reset": func(ctx context.Context, t *testing.T, s *stage, run client.WorkflowRun) {
			t.Helper()
			_, err := s.client.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
				Namespace: "default", WorkflowExecution: &common.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
				Reason: "test", WorkflowTaskFinishEventId: 4, RequestId: uuid.NewString(),
			})
			if err != nil {
				t.Fatal(err)
			}
		},
		"continued as new": func(ctx context.Context, t *testing.T, s *stage, run client.WorkflowRun) {
			t.Helper()
			if err := s.client.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), "go on", nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			addr, visits := newGate(t)
			registry := prometheus.NewRegistry()
			s := newStage(t, redistest.Start(t).URL(), func(o *worker.Options) {
				o.Policies = map[string]interceptors.Policy{"section": interceptors.Critical}
				o.Registerer = registry
			})
			s.work(t, func(r sdkworker.Registry) {
				r.RegisterWorkflow(onward)
				r.RegisterActivityWithOptions(func(ctx context.Context) error { return section(ctx, addr) },
					activity.RegisterOptions{Name: "section"})
			})
			run := s.start(ctx, t, onward, name != "reset")
			hub, err := s.plugin.Subscriber(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sub, err := hub.Subscribe(ctx, run.GetID(), notifier.FromStart())
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			zombie := next(ctx, t, visits)
			leave(ctx, t, s, run)
			look := time.NewTicker(10 * time.Millisecond)
			defer look.Stop()
			// It says that it waits when it begins to; that the lock is held it finds then.
			for says, waits := false, false; !says || !waits; {
				select {
				case ev := <-sub.Events():
					says = says || ev.Status == notifier.StatusWaiting && ev.RunID != run.GetRunID()
				case <-look.C:
					waits = metric(t, registry, "redis_lock_contention_total", "") > 0
				case v := <-visits:
					t.Fatalf("the new run is inside with fence %d, beside the old one's %d", v.fence, zombie.fence)
				case <-ctx.Done():
					t.Fatal("the new run neither waits nor enters")
				}
			}
			zombie.letOut(t)
			heir := next(ctx, t, visits)
			heir.letOut(t)
			if heir.fence <= zombie.fence {
				t.Errorf("fence %d after %d", heir.fence, zombie.fence)
			}
			if err := s.client.GetWorkflow(ctx, run.GetID(), "").Get(ctx, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}
