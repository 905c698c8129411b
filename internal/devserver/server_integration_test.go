//go:build integration && unix

package devserver

import (
	"context"
	"os"
	"sync"
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
