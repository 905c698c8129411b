package loopback

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// holder makes this test binary a process that takes a port, tells which, and lives
// until its standard input ends.
const holder = "TEMPORAL_REDIS_TEST_HOLD_A_PORT"

func TestMain(m *testing.M) {
	if os.Getenv(holder) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	port, err := Port()
	if err != nil {
		panic(err)
	}
	fmt.Println(port)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestPortsAreFreeAndGivenOutOnce(t *testing.T) {
	t.Parallel()
	const count = 100
	ports := make(chan int, count)
	var group sync.WaitGroup
	for range count {
		group.Go(func() {
			port, err := Port()
			if err != nil {
				t.Error(err)
				return
			}
			ports <- port
		})
	}
	group.Wait()
	close(ports)
	seen := map[int]bool{}
	for port := range ports {
		t.Cleanup(func() { Release(port) })
		if seen[port] {
			t.Errorf("port %d was given out twice", port)
		}
		seen[port] = true
		if port < firstPort || port > lastPort {
			t.Errorf("port %d is out of range", port)
		}
	}
}

func TestPortIsNotOneThatSomebodyListensOn(t *testing.T) {
	t.Parallel()
	port, err := Port()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Release(port) })
	listener, err := net.Listen("tcp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	if free(port) {
		t.Errorf("port %d counts as free while somebody listens on it", port)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if !free(port) {
		t.Errorf("port %d counts as taken after its listener closed", port)
	}
}

// The test is not parallel: until a new process has become another program, it has a
// copy of every socket of this one, also of those that other tests close meanwhile.
func TestPortOfAnotherProcessIsTakenUntilItDies(t *testing.T) {
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), holder+"=1")
	if _, err := other.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("12000\n"))
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := reserve(port); ok {
		t.Errorf("port %d was given out although another process has it", port)
	}
	if !free(port) {
		t.Errorf("somebody listens on port %d", port)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	mark, ok := reserve(port)
	if !ok {
		t.Fatalf("port %d is not given out although its process is dead", port)
	}
	if err := mark.Close(); err != nil {
		t.Error(err)
	}
}

// The test is not parallel, see above.
func TestPortIsFreeWhileProcessesStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for ctx.Err() == nil {
				other := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
				other.Env = append(os.Environ(), holder+"=")
				_ = other.Run() // what becomes of it does not matter
			}
		})
	}
	for range 3000 {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", Address(port))
		if err != nil {
			t.Errorf("port %d was free a moment ago: %v", port, err)
		} else if err := listener.Close(); err != nil {
			t.Error(err)
		}
		Release(port)
		if t.Failed() {
			break
		}
	}
	cancel()
	starting.Wait()
}

func TestListen_tries_another_port_if_one_is_taken(t *testing.T) {
	t.Parallel()
	taken := &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
	for name, test := range map[string]struct {
		fails int // first
		with  error
		calls int
		good  bool
	}{
		"free":            {calls: 1, good: true},
		"taken once":      {fails: 1, with: taken, calls: 2, good: true},
		"taken each time": {fails: tries, with: taken, calls: tries},
		"another mistake": {fails: 1, with: syscall.EACCES, calls: 1},
	} {
		calls := 0
		port, err := Listen(func(int) error {
			if calls++; calls <= test.fails {
				return test.with
			}
			return nil
		})
		if calls != test.calls || (err == nil) != test.good || (port > 0) != test.good {
			t.Errorf("%s: port %d, %v after %d calls", name, port, err, calls)
		}
		Release(port)
	}
}
