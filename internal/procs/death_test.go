//go:build unix

package procs

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the children do. Each says "up" and then runs until it is killed; all of
// them hold the pipe that the test reads.
const (
	plainChild    = `echo up; exec sleep 600`
	stubbornChild = `trap '' TERM INT HUP; echo up; while :; do sleep 600; done`
	stoppedChild  = `echo up; kill -s STOP $$; exec sleep 600`
	parentOfChild = `sleep 600 & echo up; wait`
)

func TestChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		end    string
		signal syscall.Signal
	}{
		"killed by SIGKILL":                  {plainChild, "signal", syscall.SIGKILL},
		"killed by SIGTERM":                  {plainChild, "signal", syscall.SIGTERM},
		"interrupted":                        {plainChild, "signal", syscall.SIGINT},
		"exited":                             {plainChild, "exit", 0},
		"panicked":                           {plainChild, "panic", 0},
		"killed, the child ignoring signals": {stubbornChild, "signal", syscall.SIGKILL},
		"killed, the child being stopped":    {stoppedChild, "signal", syscall.SIGKILL},
		"killed, the child having a child of its own": {parentOfChild, "signal", syscall.SIGKILL},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scratch := filepath.Join(t.TempDir(), "scratch")
			if err := os.Mkdir(scratch, 0o700); err != nil {
				t.Fatal(err)
			}
			parent := startParent(t, test.end, test.script, scratch)
			parent.letEnd(t, test.signal)
			// The end of the pipe: parent, child and grandchild are gone.
			if rest, err := io.ReadAll(parent.output); err != nil {
				t.Fatalf("read to the end: %q, %v", rest, err)
			}
			waitFor(t, "the scratch directory to be removed", func() bool {
				_, err := os.Stat(scratch)
				return os.IsNotExist(err)
			})
		})
	}
}

type testParent struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
}

// startParent runs this test binary as a parent and returns when its child is
// up.
func startParent(t *testing.T, end, script, scratch string) *testParent {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+end, scriptEnv+"="+script, scratchEnv+"="+scratch)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	cmd.Stdout = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if err := reader.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	parent := &testParent{cmd: cmd, input: input, output: bufio.NewReader(reader)}
	if line, err := parent.output.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	return parent
}

func (p *testParent) letEnd(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if signal != 0 {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.input.Close()
	_ = p.cmd.Wait() // any end is what the test asked for
}

// waitFor asks until the answer is yes, for at most 30 s.
func waitFor(t *testing.T, what string, reached func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(30 * time.Second)
	for !reached() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

func TestParentThatDiesBeforeTheWatchdogStandsLeavesNothing(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "ran")
	launcher, goPipe, err := startLauncher(Command{Path: "/usr/bin/touch", Args: []string{trace}})
	if err != nil {
		t.Fatal(err)
	}
	// What the kernel does when the parent dies now.
	_ = goPipe.Close()
	if err := launcher.Wait(); err == nil {
		t.Error("the launcher ended well without having been told to go")
	}
	if _, err := os.Stat(trace); !os.IsNotExist(err) {
		t.Errorf("the command ran: %v", err)
	}
}

func TestWatchdogGoesWithAChildThatEnded(t *testing.T) {
	t.Parallel()
	scratch := t.TempDir()
	process, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", "exit 3"}, Scratch: scratch})
	if err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	if state := process.watchdog.ProcessState; state == nil || state.ExitCode() != 0 {
		t.Errorf("watchdog: %v, want exit code 0", state)
	}
	if _, err := os.Stat(scratch); err != nil {
		t.Errorf("scratch directory although the parent lives: %v", err)
	}
	if err := process.Err(); err == nil || !strings.Contains(err.Error(), strconv.Itoa(3)) {
		t.Errorf("end of the child: %v, want exit code 3", err)
	}
}
