//go:build integration

package pgstate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func init() { programs["dies-after-commit"] = diesAfterCommit }

// What the child process is told by its environment.
const (
	postgresVariable = "PGSTATE_POSTGRES"
	redisVariable    = "PGSTATE_REDIS"
	countVariable    = "PGSTATE_COUNT"
)

// killedTimeout is the ChangeTimeout of all. The list of a state lives for that
// long after the last change of it.
const killedTimeout = 3 * time.Second

// diesAfterCommit is a process that writes task a and is killed once its COMMIT is
// answered, before it tells Redis.
func diesAfterCommit() int {
	err := func() error {
		ctx := context.Background()
		n, err := strconv.Atoi(os.Getenv(countVariable))
		if err != nil {
			return err
		}
		pool, err := connectTo(ctx, os.Getenv(postgresVariable), traced(&atCommit{after: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }}))
		if err != nil {
			return err
		}
		cached, err := NewCached(pool, redis.NewClient(&redis.Options{Addr: os.Getenv(redisVariable)}), Options{ChangeTimeout: killedTimeout})
		if err != nil {
			return err
		}
		return cached.SaveTaskWithLocking(ctx, "a", setOutput(gated{N: n}))
	}()
	fmt.Fprintln(os.Stderr, "it was not killed:", err)
	return 1
}

// dies runs that process and returns when it is gone.
func (d *database) dies(t *testing.T, redis string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), programVariable+"=dies-after-commit", postgresVariable+"="+d.url, redisVariable+"="+redis, countVariable+"="+strconv.Itoa(n))
	output, err := child.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("got %v\n%s", err, output)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("got %v\n%s", err, output)
	}
}

// Its mark is there, so that reads go to PostgreSQL until ChangeTimeout; then what
// it left is loaded and kept.
func TestCached_whose_writer_is_killed_between_COMMIT_and_Redis(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	d.seed(t, "w", "a", "b")
	o := Options{ChangeTimeout: killedTimeout}
	readers := []*process{d.start(t, dial(t, server.URL()), o), d.start(t, dial(t, server.URL()), o)}
	for round := 1; round <= 3; round++ {
		for _, p := range readers {
			p.agrees(t, d, "w")
			if round == 1 && p.agrees(t, d, "w") {
				t.Fatal("the state is not kept from the beginning")
			}
		}
		d.dies(t, server.Addr(), round)
		died := time.Now()
		for _, p := range readers {
			if state, loaded := p.get(t, "w"); outputOf(t, state, "a").N != round || !loaded {
				t.Fatalf("at once: %s, loaded %v; want %d from PostgreSQL", state.Tasks["a"].Output, loaded, round)
			}
		}
		if round == 2 {
			continue // the next one dies while this one's mark is there
		}
		must(t, readers[0].SaveTaskWithLocking(t.Context(), "b", setOutput(gated{N: round}))) // others go on
		kept := false
		until(t, "a state that is kept again", func() bool {
			for _, p := range readers {
				state, loaded := p.get(t, "w")
				if outputOf(t, state, "a").N != round || outputOf(t, state, "b").N != round {
					t.Errorf("%v after the death: %s and %s; want %d", time.Since(died), state.Tasks["a"].Output, state.Tasks["b"].Output, round)
				}
				kept = !loaded
			}
			return kept
		})
		t.Logf("round %d: kept again after %v", round, time.Since(died))
		for _, p := range readers {
			p.agrees(t, d, "w")
		}
	}
}
