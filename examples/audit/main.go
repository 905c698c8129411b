// Command audit is the demo of temporal-redis: a small workflow runtime in the
// shape of Compozy's. It reads a workflow file, keeps the normalized task
// configs in Redis, runs one Temporal workflow that sees only their refs, and
// shows every status as it is published.
//
// It promises that its report is checked: what the workflow counted is counted
// again by other code, and a difference is a failure. Bad input is one line on
// stderr and leaves nothing behind; whatever it starts it stops, also on
// Ctrl-C.
//
// Not for: running workflows that matter. It is an example, to be read.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // a server, the workflow or the check
	exitUsage       = 2   // flags or the workflow file
	exitInterrupted = 130 // Ctrl-C
)

// What else computes stands back for the events on their way to the screen: on two slow
// processors the slowest hundredth took 6 to 15 ms so, and 16 to 38 ms otherwise.
const (
	// serverNice is for the dev server. Nobody on a busy machine waits long for one that
	// stands back by 5; by 19, a demo beside four busy loops took 100 s instead of 7.
	serverNice = 5
	// threads are so many for each processor: Go gives who computes 10 ms before another
	// is let in, the kernel prefers who has waited.
	threads = 2
	// gcPercent lets the heap, which is a few megabytes, grow: it was collected every
	// 80 ms, for 5 to 10 ms each time.
	gcPercent = 400
)

func main() { os.Exit(realMain()) }

func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	runtime.GOMAXPROCS(threads * runtime.GOMAXPROCS(0))
	debug.SetGCPercent(gcPercent)
	logging.Disable() // go-redis would write into the table; its errors reach us as errors
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// errInput marks what the user has to write in another way.
var errInput = errors.New("bad input")

// run is the program: everything but the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, errHelp):
		return exitOK
	case err == nil:
		err = audit(ctx, s, stdout)
	}
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "audit: interrupted")
		return exitInterrupted
	}
	_, _ = fmt.Fprintln(stderr, "audit: "+oneLine(err))
	if errors.Is(err, errInput) {
		return exitUsage
	}
	return exitFailed
}

// oneLine is an error's text without its marker; joined errors come in several
// lines.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), errInput.Error()+": ")
	return strings.Join(strings.Fields(text), " ")
}
