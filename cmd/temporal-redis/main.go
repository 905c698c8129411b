// Command temporal-redis is for people who run the worker plugin: it shows what
// the plugin keeps in Redis. It takes the plugin's REDIS_* environment, and flags
// that win over it.
//
//	temporal-redis watch ID [--json] [--after N]    a workflow and its tasks, live
//	temporal-redis watch --all [--json]             all workflows
//	temporal-redis locks [--json]                   held locks: holder, age, TTL, fence, waiters
//	temporal-redis version
//	temporal-redis completion bash|zsh|fish
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// mute drops what the Redis client says on standard error by itself: each command says
// what came of it.
type mute struct{}

// Printf implements the client's logger.
func (mute) Printf(context.Context, string, ...any) {}

func main() {
	redis.SetLogger(mute{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr}, os.LookupEnv)
	stop()
	os.Exit(code)
}

type streams struct{ out, err io.Writer }

// command is one subcommand.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, s streams, env lookup) error
}

type lookup = func(string) (string, bool)

var commands = []command{
	{"watch", "show a workflow and its tasks while they change (watch ID, or watch --all)", watch},
	{"locks", "list held locks: holder, age, TTL, fence, waiters", locks},
	{"version", "print the version of this program", version},
}

// Exit codes: 0 well, 1 it did not work, 2 it was called wrongly; of watch: how the
// workflow ended.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitFAILED   = 3
	exitTimedOut = 4
	exitCanceled = 5
)

// errUsage says that the command was called wrongly, and that it was said how to.
var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, s streams, env lookup) int {
	if len(args) == 0 {
		usage(s.err)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(s.out)
		return 0
	case "completion":
		return completion(args[1:], s)
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(ctx, args[1:], s, env); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return exitUsage
		case exitOf(err) != 0:
			return exitOf(err)
		default:
			_, _ = fmt.Fprintf(s.err, "temporal-redis %s: %v\n", c.name, err)
			return exitFailed
		}
	}
	_, _ = fmt.Fprintf(s.err, "temporal-redis: there is no command %q\n\n", args[0])
	usage(s.err)
	return exitUsage
}

func usage(w io.Writer) {
	_, _ = fmt.Fprint(w, "usage: temporal-redis COMMAND [flags]\n\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	_, _ = fmt.Fprintf(w, "  %-10s %s\n", "completion", "print a script that completes commands (bash, zsh or fish)")
	_, _ = fmt.Fprint(w, "\ntemporal-redis COMMAND --help tells its flags. Redis is where REDIS_URL says, or --redis.\n")
}
