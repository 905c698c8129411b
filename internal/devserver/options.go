//go:build unix

package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// Options configure a Server. The zero value works inside the repository.
type Options struct {
	// Path is the Temporal CLI. Defaults to what Locate finds.
	Path string
	// Namespaces are made beside "default". Defaults to none.
	Namespaces []string
	// DynamicConfig are server settings by name, values in JSON. They are added
	// to those that make a development server quick, and win over them.
	DynamicConfig map[string]string
	// LogLevel is debug, info, warn or error. Defaults to "warn".
	LogLevel string
	// Dir receives the log. Defaults to a temporary directory that goes with
	// the server.
	Dir string
	// ExtraArgs are added to the command line. Defaults to none.
	ExtraArgs []string
	// Nice is how far the server stands back for others who want the processor once it
	// serves, 0 to 19; see procs.Process. Defaults to 0. It starts as this process does: a
	// server that is not there 15 s after its services began to start ends, and on a busy
	// machine one that stood back from the first was not.
	Nice int
	// StartTimeout bounds Start. Defaults to 1 m.
	StartTimeout time.Duration
}

func (o Options) withDefaults(ctx context.Context) (Options, error) {
	if o.LogLevel == "" {
		o.LogLevel = "warn"
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	if o.Path == "" {
		root, err := Root()
		if err != nil {
			return o, err
		}
		if o.Path, err = Locate(ctx, root); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o Options) validate() error {
	var errs []error
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, o.LogLevel) {
		errs = append(errs, fmt.Errorf("devserver: LogLevel %q is none of debug, info, warn, error", o.LogLevel))
	}
	if o.StartTimeout < 0 {
		errs = append(errs, fmt.Errorf("devserver: StartTimeout %v is negative", o.StartTimeout))
	}
	return errors.Join(errs...)
}

// quickSettings take out waits that a server for one machine does not need:
// the queue processors' poll limits cost 50 ms per hop, and a task that meets
// no poller on its partition waits 2 s.
var quickSettings = map[string]string{
	"history.transferProcessorMaxPollRPS":   "2000",
	"history.timerProcessorMaxPollRPS":      "2000",
	"history.visibilityProcessorMaxPollRPS": "2000",
	"matching.useNewMatcher":                "true",
	"frontend.enableServerVersionCheck":     "false",
	"system.enableActivityEagerExecution":   "true",
}

// StickyEnv is the variable by which `make test` runs the integration tests a
// second time without the sticky cache: a number of workflows, 0 for none.
const StickyEnv = "TEMPORAL_REDIS_TEST_STICKY"

// StickyCacheSize is how many workflows the sticky cache of this test process
// shall hold, to be given to worker.SetStickyWorkflowCacheSize before the
// first worker: StickyEnv if set, else ok is false and the SDK's default
// stands.
func StickyCacheSize() (size int, ok bool) {
	size, err := strconv.Atoi(os.Getenv(StickyEnv))
	return size, err == nil && size >= 0
}
