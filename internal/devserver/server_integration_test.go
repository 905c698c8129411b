//go:build integration && unix

package devserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func TestServerRunsAWorkflowInEachNamespace(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{Namespaces: []string{"second"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	for _, namespace := range []string{"default", "second"} {
		t.Run(namespace, func(t *testing.T) {
			c, err := client.DialContext(t.Context(), client.Options{HostPort: server.Addr(), Namespace: namespace, Logger: silent{}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			w := worker.New(c, "queue", worker.Options{})
			w.RegisterWorkflowWithOptions(func(workflow.Context) (string, error) { return "done", nil },
				workflow.RegisterOptions{Name: "hello"})
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.Stop)
			run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "queue"}, "hello")
			if err != nil {
				t.Fatal(err)
			}
			var got string
			if err := run.Get(t.Context(), &got); err != nil || got != "done" {
				t.Fatalf("workflow: %q, %v", got, err)
			}
		})
	}
}

func TestServersStartedAtOnceAreAllTheirOwn(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	pids := make(chan int, 3)
	for range cap(pids) {
		group.Go(func() {
			server, err := Start(t.Context(), Options{})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(server.Stop)
			pids <- server.Pid()
		})
	}
	group.Wait()
	close(pids)
	seen := map[int]bool{}
	for pid := range pids {
		seen[pid] = true
	}
	if !t.Failed() && len(seen) != cap(pids) {
		t.Errorf("%d different servers, want %d", len(seen), cap(pids))
	}
}

func TestStoppedServerLeavesNothing(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	server.Stop()
	select {
	case <-server.Done():
	default:
		t.Error("the process still runs after Stop")
	}
	if _, err := os.Stat(server.LogFile()); !os.IsNotExist(err) {
		t.Errorf("log file after Stop: %v", err)
	}
}

func TestStartIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if server, err := Start(ctx, Options{}); err == nil {
		server.Stop()
		t.Fatal("start within a millisecond went through")
	}
}

// shim is a program in place of the Temporal CLI; its script has the real one in $REAL.
func shim(t *testing.T, script string) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	program, err := Locate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "temporal")
	script = fmt.Sprintf("#!/bin/sh\nREAL='%s'\n%s\n", program, script)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { // #nosec G306 -- to be executed
		t.Fatal(err)
	}
	return path
}

func TestStartWaitsForAllServices(t *testing.T) {
	t.Parallel()
	// Its frontend serves, but it never says that all is there.
	server, err := Start(t.Context(), Options{Path: shim(t, `exec "$REAL" "$@" >/dev/null`), StartTimeout: 20 * time.Second})
	if err == nil {
		server.Stop()
		t.Fatal("started, though the server never said so")
	}
	if !strings.Contains(err.Error(), "not all of its services have started") {
		t.Error(err)
	}
}

// TestSlowServerIsStartedAgain: what a server says that could not start its services
// within its own 15 s, on a machine with other work.
func TestSlowServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	server, err := Start(t.Context(), Options{Path: shim(t, fmt.Sprintf(`
[ -e '%[1]s' ] && exec "$REAL" "$@"
touch '%[1]s'
echo '{"level":"ERROR","msg":"failed starting server: failed to start service worker: context deadline exceeded"}'
exit 1`, mark))})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
}

func TestServerStandsBackOnceItServes(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{Nice: 19})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", server.Pid()))
	if err != nil || len(threads) < 2 && runtime.GOOS == "linux" {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it ended
		}
		_, fields, _ := strings.Cut(string(text), ") ") // proc(5): nice is the 19th, the name the second
		if nice := strings.Fields(fields)[16]; nice != "19" {
			t.Errorf("a thread has nice %s", nice)
		}
	}
}

func TestErrTellsHowAServerEnded(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	if err := server.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v, want how it ended", err)
	}
}
