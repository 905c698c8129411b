//go:build unix

package procs

import (
	"bufio"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start runs a script and returns it with what it says, once it says "up".
func start(t *testing.T, script string) (*Process, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	process, err := Start(Command{Path: shell, Args: []string{"-c", script}, Env: Environ(), Output: writer})
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	said := make([]byte, 3)
	if _, err := io.ReadFull(reader, said); err != nil || string(said) != "up\n" {
		t.Fatalf("child said %q, %v", said, err)
	}
	return process, reader
}

func TestStopEndsAChild(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		grace  time.Duration
		signal syscall.Signal
	}{
		"by its stop signal":                   {plainChild, time.Minute, syscall.SIGTERM},
		"by force when it ignores that":        {stubbornChild, time.Millisecond, syscall.SIGKILL},
		"by its stop signal when it is paused": {`echo up; exec sleep 600`, time.Minute, syscall.SIGTERM},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process, output := start(t, test.script)
			if strings.Contains(name, "paused") {
				if err := process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			process.Stop(test.grace)
			if process.Running() {
				t.Error("still running after Stop")
			}
			status, ok := process.launcher.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || status.Signal() != test.signal {
				t.Errorf("ended by %v, want %v", process.Err(), test.signal)
			}
			if _, err := io.ReadAll(output); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKillTakesTheWholeGroup(t *testing.T) {
	t.Parallel()
	process, output := start(t, parentOfChild)
	process.Kill()
	// Ends only when the grandchild has closed its end too.
	if _, err := io.ReadAll(output); err != nil {
		t.Fatal(err)
	}
}

func TestEndedChildTakesItsGroupAlong(t *testing.T) {
	t.Parallel()
	process, output := start(t, `sleep 600 & echo up; exit 0`)
	<-process.Done()
	if _, err := io.ReadAll(output); err != nil {
		t.Fatal(err)
	}
	if err := process.Err(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestSignalAfterTheEndIsAnError(t *testing.T) {
	t.Parallel()
	process, _ := start(t, plainChild)
	if err := process.Err(); err != nil {
		t.Errorf("error of a running child: %v", err)
	}
	process.Kill()
	process.Kill()
	process.Stop(time.Minute)
	if err := process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v, want os.ErrProcessDone", err)
	}
}

func TestChildSeesOnlyTheEnvironmentItWasGiven(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://canary")
	t.Setenv("REDISTRIBUTE", "kept")
	got := Environ("REDIS_")
	if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "REDIS_") }) {
		t.Error("a variable with the prefix was kept")
	}
	if !slices.Contains(got, "REDISTRIBUTE=kept") {
		t.Error("another variable was lost")
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	process, err := Start(Command{Path: "/usr/bin/env", Output: writer})
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	text, err := io.ReadAll(reader)
	if err != nil || strings.Contains(string(text), "canary") {
		t.Errorf("environment of a child without one: %q, %v", text, err)
	}
}

func TestCommandsThatCannotRun(t *testing.T) {
	t.Parallel()
	if _, err := Start(Command{Path: "relative", Scratch: "/"}); err == nil ||
		!strings.Contains(err.Error(), "Path") || !strings.Contains(err.Error(), "Scratch") {
		t.Errorf("start: %v, want both fields named", err)
	}
	process, err := Start(Command{Path: "/no/such/program"})
	if err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	if process.Err() == nil {
		t.Error("a program that does not exist ended well")
	}
}

func TestChildStandsBackWithWhatItStarted(t *testing.T) {
	t.Parallel()
	process, output := start(t, `trap 'nice; exit' TERM; sleep 600 & echo up; echo $!; while :; do wait; done`)
	lines := bufio.NewReader(output)
	line, err := lines.ReadString('\n')
	sleeper, bad := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || bad != nil {
		t.Fatalf("%q, %v, %v", line, err, bad)
	}
	if err := process.StandBack(-1); err == nil || !strings.Contains(err.Error(), "0 to 19") {
		t.Errorf("nice -1: %v", err)
	}
	if err := process.StandBack(19); err != nil {
		t.Fatal(err)
	}
	both := [2]int{}
	for i, pid := range []int{process.Pid(), sleeper} {
		if both[i], err = syscall.Getpriority(syscall.PRIO_PROCESS, pid); err != nil {
			t.Fatal(err)
		}
	}
	if both[0] != both[1] { // in the words of the system call, which differ between systems
		t.Errorf("child and grandchild: %v", both)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(lines); err != nil || strings.TrimSpace(string(said)) != "19" {
		t.Errorf("it said %q, %v; want 19", said, err)
	}
	<-process.Done()
	if err := process.StandBack(19); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after the end: %v", err)
	}
}
