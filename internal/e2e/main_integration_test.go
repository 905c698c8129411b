//go:build integration

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/leak"
)

// temporalAddr is the development server that all tests of this binary share.
var temporalAddr string

// temporalLog is the end of its log.
var temporalLog func() string

// childEnv names the role of a process that a test started from this binary.
const childEnv = "TEMPORAL_REDIS_E2E_ROLE"

func TestMain(m *testing.M) {
	if size, ok := devserver.StickyCacheSize(); ok {
		worker.SetStickyWorkflowCacheSize(size)
	}
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(runChild(role))
	}
	os.Exit(run(m))
}

// waiting is how many tests do little but wait until an outage is over, for a minute
// and more. They take no slot of -parallel from the others.
const waiting = 2

func run(m *testing.M) (code int) {
	flag.Parse()
	slots := flag.Lookup("test.parallel")
	if n, err := strconv.Atoi(slots.Value.String()); err == nil {
		_ = slots.Value.Set(strconv.Itoa(n + waiting))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server, err := devserver.Start(ctx, devserver.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	temporalAddr, temporalLog = server.Addr(), server.LogTail
	code = m.Run()
	server.Stop()
	if code == 0 {
		if err := goleak.Find(leak.DeadDial()); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	return code
}
