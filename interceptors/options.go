package interceptors

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.temporal.io/sdk/activity"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// Resources are what the steps work with. They are handed out by a Host and
// stay usable until the matching release.
type Resources struct {
	Store     redisstate.ConfigStore
	Sessions  Sessions // nil: activities have no session
	Locks     locking.LockManager
	Publisher notifier.Publisher
	// TemporalNamespace is the one that the keys are named after; "" when the
	// host chose their names itself.
	TemporalNamespace string
	// Health tells whether the Redis of the configs answers, and LockHealth
	// whether that does and leases can be had. nil: nobody knows, and each attempt
	// finds out for itself.
	Health, LockHealth Availability
	// GatedFor tells for how long since then this process took no activities of a task
	// queue because Redis was away, as far as it knows. nil: it takes them always.
	GatedFor func(taskQueue string, since time.Time) time.Duration
}

// Sessions opens the session of an execution without I/O.
type Sessions interface {
	Open(executionID string) (*redisstate.Session, error)
}

// Host owns the resources; package worker implements it.
type Host interface {
	// Enter counts one running activity of a worker and hands out the
	// resources; they are not closed before release is called. It does no
	// network I/O.
	Enter() (res Resources, release func(), err error)
	// Publisher is the publisher for workflow and client code. It never blocks
	// and does no network I/O. It returns nil when there is none (replays).
	Publisher() notifier.Publisher
}

// ErrInvalidOptions is wrapped by the errors of NewWorker, NewClient and Options.Validate.
var ErrInvalidOptions = errors.New("invalid options")

// Options are the settings of the interceptors. The zero value works.
type Options struct {
	// DefaultPolicy applies to activity types without a policy of their own.
	// Defaults to the built-in policy (see Policy).
	DefaultPolicy Policy
	// Policies are the policies by activity type. Defaults to none.
	Policies map[string]Policy
	// LockWait bounds how long a critical activity waits for its lease before
	// it gives its slot back with the retryable error LockContended, as it does when
	// Temporal says meanwhile that it is paused or reset. It is also
	// kept under half of the activity's remaining time. At least 0 (try once
	// only with a negative value). Defaults to 30 s.
	LockWait time.Duration
	// LockKey names the resource that a critical activity locks. Defaults to
	// the Temporal namespace and the workflow id (not the run: a reset's zombie
	// must meet the same lock); standalone activities have no workflow and need
	// a function.
	LockKey func(activity.Info) (string, error)
	// LockKeys are other functions, by the names that policies use (Policy.LockKey):
	// each names one resource or several, which are then all locked, in the order of
	// their names. Defaults to none.
	LockKeys map[string]func(activity.Info) ([]string, error)
	// WorkflowID maps Temporal's workflow id to the id under which events are
	// published. Defaults to the workflow id itself. It must be deterministic.
	WorkflowID func(temporalWorkflowID string) string
	// RetryDelay is the middle of the jittered delay (half to one and a half
	// times) before an attempt that found Redis away is tried again. It grows
	// with the attempts to 5 times this value. Defaults to 1 s; at least 10 ms.
	RetryDelay time.Duration
	// Pause are the settings of what happens while Redis is away. Defaults to all
	// layers on.
	Pause Pause
	// Logger receives what has no other way out. Defaults to slog.Default().
	Logger *slog.Logger
	// Registerer takes the metrics. Defaults to prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer

	jitter func() float64 // in [0,1)
}

// Defaults of Options.
const (
	DefaultLockWait   = 30 * time.Second
	DefaultRetryDelay = time.Second
)

func (o Options) withDefaults() Options {
	switch {
	case o.LockWait == 0:
		o.LockWait = DefaultLockWait
	case o.LockWait < 0:
		o.LockWait = 0
	}
	if o.LockKey == nil {
		o.LockKey = workflowLockKey
	}
	if o.WorkflowID == nil {
		o.WorkflowID = func(id string) string { return id }
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = DefaultRetryDelay
	}
	o.Pause = o.Pause.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.jitter == nil {
		o.jitter = rand.Float64
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.RetryDelay < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("interceptors: RetryDelay is %v; use 10 ms or more, or 0 for %v", o.RetryDelay, DefaultRetryDelay))
	}
	_, err := newPolicies(o.DefaultPolicy, o.Policies)
	errs = append(errs, err, o.Pause.validate(), o.checkLockKey("the default", o.DefaultPolicy))
	for _, name := range slices.Sorted(maps.Keys(o.Policies)) {
		errs = append(errs, o.checkLockKey(fmt.Sprintf("activity type %q", name), o.Policies[name]))
	}
	if err := errors.Join(errs...); err != nil {
		return &invalidError{err}
	}
	return nil
}

// invalidError is an ErrInvalidOptions whose text names what is wrong, and only that: New
// and worker.NewPlugin pass it on behind the words that options are invalid.
type invalidError struct{ err error }

func (e *invalidError) Error() string      { return e.err.Error() }
func (e *invalidError) Unwrap() error      { return e.err }
func (*invalidError) Is(target error) bool { return target == ErrInvalidOptions }

// checkLockKey refuses a policy whose key function is not there.
func (o Options) checkLockKey(whose string, p Policy) error {
	if p.LockKey == "" || o.LockKeys[p.LockKey] != nil {
		return nil
	}
	return fmt.Errorf("interceptors: policy of %s: LockKey is %q; LockKeys has %q", whose, p.LockKey, slices.Sorted(maps.Keys(o.LockKeys)))
}

// Validate checks the options without any I/O.
func (o Options) Validate() error { return o.withDefaults().validate() }

// propagator carries trace context in event envelopes (W3C Trace Context).
var propagator = propagation.TraceContext{}
