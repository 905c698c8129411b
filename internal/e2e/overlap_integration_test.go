//go:build integration

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/procs"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// The children of the overlap test: worker processes of their own, which ask
// the referee in the test's process before and after their critical section.
const (
	roleLocked   = "locked"
	roleUnlocked = "unlocked"
	roleBrief    = "brief"  // locked, by leases of briefTTL; one slot, and no workflows
	roleSingle   = "single" // unlocked; one slot, and no workflows
)

const briefTTL = 2 * time.Second

// sections is how many critical activities one workflow runs at once.
const sections = 16

// contest runs critical sections side by side and leaves their order to the
// lock, if there is one.
func contest(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
	var futures []workflow.Future
	for range sections {
		futures = append(futures, workflow.ExecuteActivity(ctx, "section"))
	}
	for _, f := range futures {
		if err := f.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// section enters and leaves the critical section: the referee decides how long
// it takes and sees who is inside.
func section(ctx context.Context, referee string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", referee)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the exchange is over
	fence, _ := activities.Fence(ctx)   // 0 without a lock
	if _, err := fmt.Fprintf(conn, "%d %d\n", os.Getpid(), fence); err != nil {
		return err
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		return err
	}
	_, err = fmt.Fprintln(conn, "left")
	return err
}

// runChild is a worker process: TEMPORAL_REDIS_E2E_ARGS has the addresses.
func runChild(role string) int {
	var temporalAddr, redisURL, queue, referee string
	if _, err := fmt.Sscan(os.Getenv(childArgsEnv), &temporalAddr, &redisURL, &queue, &referee); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	o := worker.Options{
		Redis:       redisstate.Options{URL: redisURL},
		Environment: func(string) (string, bool) { return "", false },
	}
	if role == roleLocked || role == roleBrief {
		o.Policies = map[string]interceptors.Policy{"section": interceptors.Critical}
	}
	if role == roleBrief {
		o.LockTTL = briefTTL
	}
	plugin, err := worker.NewPlugin(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	c, err := client.Dial(client.Options{HostPort: temporalAddr, Logger: quiet, ConnectionOptions: devserver.Connection(), Plugins: []client.Plugin{plugin}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	defer c.Close()
	// Few slots: one process cannot take all sections before the other polls.
	wo := sdkworker.Options{MaxConcurrentActivityExecutionSize: 4}
	if role == roleBrief || role == roleSingle {
		wo.MaxConcurrentActivityExecutionSize = 1 // it polls for no other while it is inside
	}
	wo.DisableWorkflowWorker = wo.MaxConcurrentActivityExecutionSize == 1
	w := newWorker(c, queue, wo)
	if !wo.DisableWorkflowWorker {
		w.RegisterWorkflow(contest)
	}
	w.RegisterActivityWithOptions(func(ctx context.Context) error { return section(ctx, referee) },
		activity.RegisterOptions{Name: "section"})
	if err := w.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	fmt.Println("ready")
	// The parent ends us by closing our standard input.
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	w.Stop()
	return 0
}

const childArgsEnv = "TEMPORAL_REDIS_E2E_ARGS"

// referee sees every critical section of all processes in one place.
type referee struct {
	listener net.Listener
	patience time.Duration // how long a section waits for another to join it

	mu       sync.Mutex
	inside   map[net.Conn]chan struct{} // closed when another is inside too
	overlaps int
	pids     map[int]int
	fences   []uint64
	wg       sync.WaitGroup
}

func newReferee(t *testing.T, patience time.Duration) *referee {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &referee{listener: l, patience: patience, inside: map[net.Conn]chan struct{}{}, pids: map[int]int{}}
	r.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		r.wg.Wait()
	})
	return r
}

// serve keeps one section inside until another joins it or its patience ends.
func (r *referee) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	var pid int
	var fence uint64
	if _, err := fmt.Sscan(line, &pid, &fence); err != nil {
		return
	}
	joined := r.enter(conn, pid, fence)
	timer := time.NewTimer(r.patience)
	defer timer.Stop()
	select {
	case <-joined:
	case <-timer.C:
	}
	// Leave before the answer: the section is over when its process hears of it.
	r.leave(conn)
	if _, err := fmt.Fprintln(conn, "done"); err == nil {
		_, _ = in.ReadString('\n')
	}
}

func (r *referee) enter(conn net.Conn, pid int, fence uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	joined := make(chan struct{})
	if len(r.inside) > 0 {
		r.overlaps++
		for other, ch := range r.inside {
			select {
			case <-ch:
			default:
				close(r.inside[other])
			}
		}
	}
	if r.overlaps > 0 { // the question is answered; nobody needs to wait for it
		close(joined)
	}
	r.inside[conn] = joined
	r.pids[pid]++
	r.fences = append(r.fences, fence)
	return joined
}

func (r *referee) leave(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inside, conn)
}

// startChild starts a worker process and returns when it polls. It ends with
// the test.
func startChild(t *testing.T, role, redisURL, queue, referee string) *os.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(procs.Environ(), childEnv+"="+role,
		childArgsEnv+"="+strings.Join([]string{temporalAddr, redisURL, queue, referee}, " "))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe() // the child ends when this closes, also if we are killed
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("child: %v", err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	return cmd.Process
}

// hold runs one contest of a workflow on two worker processes.
func hold(t *testing.T, role string, patience time.Duration) *referee {
	t.Helper()
	ctx := bounded(t)
	redisURL := redistest.Start(t).URL()
	r := newReferee(t, patience)
	s := newStage(t, redisURL, nil)
	for range 2 {
		startChild(t, role, redisURL, s.queue, r.listener.Addr().String())
	}
	if err := s.start(ctx, t, contest).Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fences) != sections {
		t.Errorf("%d sections, want %d", len(r.fences), sections)
	}
	return r
}

func TestCriticalActivitiesOfTwoProcesses(t *testing.T) {
	t.Parallel()

	t.Run("never overlap under the lock, and their fences rise", func(t *testing.T) {
		t.Parallel()
		r := hold(t, roleLocked, 50*time.Millisecond)
		if r.overlaps != 0 {
			t.Errorf("%d overlaps", r.overlaps)
		}
		if len(r.pids) != 2 {
			t.Errorf("the sections ran in %d processes, want 2: %v", len(r.pids), r.pids)
		}
		for i := 1; i < len(r.fences); i++ {
			if r.fences[i] <= r.fences[i-1] {
				t.Errorf("fence %d after %d", r.fences[i], r.fences[i-1])
			}
		}
	})

	// The same referee must be able to see an overlap.
	t.Run("overlap without it", func(t *testing.T) {
		t.Parallel()
		if r := hold(t, roleUnlocked, 10*time.Second); r.overlaps == 0 {
			t.Error("no overlap was recorded: the test cannot fail")
		}
	})
}
