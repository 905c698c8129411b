//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemoPausesWhileRedisIsKilled runs the demo twice on one tree, the second time
// with its Redis killed for 15 s.
func TestDemoPausesWhileRedisIsKilled(t *testing.T) {
	t.Parallel()
	addr, tree := temporalServer(t), sourceTree(t, 12)
	calm, away := t.TempDir(), t.TempDir()
	flags := []string{"--temporal", addr, "--tree", tree}
	if got := demo(t.Context(), append(flags, "--out", calm)...); got.code != exitOK {
		t.Fatal(got)
	}
	got := demo(t.Context(), append(flags, "--out", away, "--chaos")...)
	if got.code != exitOK || got.stderr != "" {
		t.Fatal(got)
	}
	live := regexp.MustCompile(`(?m)^.* PAUSED    record\.\d+  \(says Temporal\) redis$`).FindAllString(got.stdout, -1)
	later := regexp.MustCompile(`(?m)^.* PAUSED    record\.\d+  redis$`).FindAllString(got.stdout, -1)
	t.Logf("%d PAUSED lines while Redis was away, %d from the log afterwards; the summary's end:\n%s",
		len(live), len(later), got.stdout[max(strings.Index(got.stdout, "\noutage "), 0):])
	if len(live) == 0 || len(later) == 0 {
		t.Errorf("PAUSED is missing: %v", got)
	}
	var paused, seen int
	_, err := fmt.Sscanf(got.stdout[max(strings.Index(got.stdout, "\npaused "), 0)+1:], "paused %d attempts, %d of them", &paused, &seen)
	if err != nil || seen < 1 || seen > len(live) || paused < seen {
		t.Errorf("the summary says %d paused, %d seen meanwhile; %d lines: %v", paused, seen, len(live), err)
	}
	for line := range strings.Lines(got.stdout) {
		if strings.Contains(line, " PAUSED ") && !strings.HasSuffix(line, " redis\n") {
			t.Errorf("a reason is not a word of ours: %s", line)
		}
	}
	for _, want := range []string{
		"--        the connection to Redis is lost", "SUCCESS   workflow", "check       right",
		"tasks       35 run, 35 seen in events", "configs     36 in Redis, 0 made again", "session     29 outputs", "counters    29 tools run",
		"attempts    35 of user code for 35 tasks, 0 used by the outage",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("the output lacks %q: %v", want, got)
		}
	}
	before, after := readReport(t, calm), readReport(t, away)
	if before.Totals != after.Totals || !slices.Equal(before.Packages, after.Packages) || ledgerLines(t, calm) != ledgerLines(t, away) {
		t.Errorf("the reports differ: %+v and %+v, %d and %d lines in the ledgers", before, after, ledgerLines(t, calm), ledgerLines(t, away))
	}
}

// TestDemoEndedInTheOutageLeavesNothing ends the program while its Redis is dead.
func TestDemoEndedInTheOutageLeavesNothing(t *testing.T) {
	t.Parallel()
	addr, tree := temporalServer(t), sourceTree(t, 12)
	for name, c := range map[string]struct {
		signal syscall.Signal
		code   int
	}{
		"by Ctrl-C":  {syscall.SIGINT, exitInterrupted},
		"by kill":    {syscall.SIGTERM, exitInterrupted},
		"by kill -9": {syscall.SIGKILL, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scratch := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "audit", "--chaos", "--temporal", addr, "--tree", tree, "--out", t.TempDir())
			cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
			stdout, stderr := &watcher{text: "PAUSED    record."}, &bytes.Buffer{}
			stdout.seen = func() { _ = cmd.Process.Signal(c.signal) }
			cmd.Stdout, cmd.Stderr = stdout, stderr
			began := time.Now()
			_ = cmd.Run() // the code says how
			if got := cmd.ProcessState.ExitCode(); got != c.code || stdout.seen != nil {
				t.Fatalf("exit code %d, PAUSED seen: %t\n%s%s", got, stdout.seen == nil, stdout.buf.String(), stderr)
			}
			t.Logf("ended after %s", time.Since(began).Round(time.Millisecond))
			emptied(t, scratch)
		})
	}
}

// emptied waits until nothing is left in dir: the files of a server go when its
// process is gone.
func emptied(t *testing.T, dir string) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	limit := time.After(10 * time.Second)
	for {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("left behind: %v", left)
		}
	}
}
