package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/activity"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// ErrInvalidOptions is wrapped by NewPlugin's errors.
var ErrInvalidOptions = errors.New("invalid options")

// Options are the settings of the plugin. The zero value works where REDIS_URL
// is set in the environment.
type Options struct {
	// Redis says where Redis is and how configs are stored. Fields that are not
	// set come from the REDIS_* environment, see redisstate.OptionsFromEnv. Its
	// Logger, Registerer, TracerProvider and Namespace, where not set, come
	// from here.
	Redis redisstate.Options
	// Environment looks up an environment variable; a function that finds
	// nothing makes the plugin ignore the process's environment. Defaults to
	// os.LookupEnv.
	Environment func(name string) (value string, found bool)

	// TemporalNamespace names the keys of this plugin where Redis.Namespace is
	// not set. Defaults to the namespace of the client that the plugin is on,
	// else "default".
	TemporalNamespace string

	// DefaultPolicy applies to activity types without a policy of their own.
	// Defaults to interceptors' built-in policy: status on, config when the
	// call names one, no lock.
	DefaultPolicy interceptors.Policy
	// Policies are the policies by activity type, for example
	// {"charge": interceptors.Critical}. Defaults to none.
	Policies map[string]interceptors.Policy
	// LockURLs are the masters of leases, 3 or 5 that are independent of each
	// other, in the same order in all processes: a lease needs a majority of them
	// (see the package locking). The other settings of their connections are those
	// of Redis, its Username and Password too where an URL has none; commands are not
	// repeated by the client. Defaults to
	// REDIS_LOCK_URLS, separated by commas, else to the Redis of the configs.
	LockURLs []string
	// LockQuarantine is for how long a lock master that was started gives no vote,
	// at least LockTTL; negative means not at all. Defaults to LockTTL, and to none
	// with one master, which would grant nothing for so long.
	LockQuarantine time.Duration
	// LockWait bounds the wait of a critical activity for its lease; negative
	// means one try. Defaults to 30 s.
	LockWait time.Duration
	// LockTTL is the time to live of a lease; at least 1 s. Defaults to 30 s.
	LockTTL time.Duration
	// LockRenewEvery is the interval of renewals; at least 10 ms and at most half of LockTTL.
	// Defaults to 10 s, or a third of a LockTTL that is set.
	LockRenewEvery time.Duration
	// LockKey names the resource of a critical activity. Defaults to the
	// workflow (Temporal namespace and workflow id).
	LockKey func(activity.Info) (string, error)
	// LockKeys are other functions, by the names that policies use
	// (interceptors.Policy.LockKey), each for one resource or several. Defaults to
	// none.
	LockKeys map[string]func(activity.Info) ([]string, error)
	// WorkflowID maps Temporal's workflow id to the id under which events are
	// published. Defaults to the workflow id itself.
	WorkflowID func(temporalWorkflowID string) string
	// RetryDelay is the middle of the delay before an attempt that found Redis
	// away is tried again. Defaults to 1 s.
	RetryDelay time.Duration
	// Pause are the settings of what happens while Redis is away: an outage pauses
	// activities rather than fail them. Defaults to all layers on, a hold of 10 s
	// in at most half of a worker's activity slots, and 24 h more than an
	// activity's schedule-to-close time-out.
	Pause interceptors.Pause
	// ChannelPrefix goes before workflow:<id> in channel names. Defaults to
	// none.
	ChannelPrefix string
	// ShardedEvents publishes and subscribes by sharded pub/sub, on a Cluster only:
	// a message then reaches the nodes of its slot, not all. All processes set it, or
	// none. Defaults to false.
	ShardedEvents bool

	// FailFast makes a worker whose Redis is away at the start refuse to start.
	// Defaults to false: it starts, is not ready, and goes on when Redis
	// answers.
	FailFast bool
	// StartTimeout bounds the check of Redis when a worker starts. Defaults to
	// 5 s.
	StartTimeout time.Duration
	// DrainTimeout bounds how long stopping a worker waits for its running
	// activities. Past it the stop returns, and Redis is closed when the last
	// activity has ended. Defaults to 30 s.
	DrainTimeout time.Duration
	// FlushTimeout bounds how long buffered events are flushed when the last
	// worker stops. Defaults to 5 s.
	FlushTimeout time.Duration
	// KeepPollers leaves the worker's poller settings alone. Defaults to false:
	// where the host set neither the number nor the behavior of a kind of
	// poller, the plugin sets 8 activity and 16 workflow pollers, below which
	// a fan-out stalls for 2 s on servers before 1.31.
	KeepPollers bool
	// GatedTaskQueues are the task queues on which workers of this plugin poll
	// for activities only while Redis answers (the slot gate): tasks then wait at
	// the server, and take a worker's slot when they can run. It is meant for
	// queues whose activities all need Redis; one that does not waits as well.
	// Workflow tasks, local activities, nexus tasks and the activities of sessions
	// are not held. Polls that were out when Redis went away still bring tasks.
	// When Redis is back, polling goes on within 250 ms. A tuner of the host is
	// wrapped; where it sets MaxConcurrent* instead, the plugin makes the tuner
	// that the SDK would make of them. A queue is listed by the name that its
	// worker has. Defaults to none.
	GatedTaskQueues []string

	// Logger receives what operators should see. Defaults to slog.Default().
	Logger *slog.Logger
	// Registerer takes the metrics. Defaults to prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer
	// Gatherer serves /metrics. Defaults to Registerer where that gathers too,
	// else to prometheus.DefaultGatherer.
	Gatherer prometheus.Gatherer
	// TracerProvider makes the spans. When it is set, Temporal's own tracing
	// interceptor is added to the client, so that Temporal's and Redis' spans
	// share a trace. Defaults to otel.GetTracerProvider() for Redis' spans
	// only: the host may trace Temporal itself.
	TracerProvider trace.TracerProvider
}

// Defaults of Options.
const (
	DefaultStartTimeout = 5 * time.Second
	DefaultDrainTimeout = 30 * time.Second
	DefaultFlushTimeout = 5 * time.Second
	// DefaultActivityPollers and DefaultWorkflowPollers are twice the 4
	// partitions of a task queue, for each kind of poll: measured, a fan-out of
	// 20 took 118 ms with them and up to 2.1 s with the SDK's 2.
	DefaultActivityPollers = 8
	DefaultWorkflowPollers = 16
)

func (o Options) withDefaults() Options {
	if o.Environment == nil {
		o.Environment = os.LookupEnv
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	if o.FlushTimeout == 0 {
		o.FlushTimeout = DefaultFlushTimeout
	}
	if o.LockTTL == 0 {
		o.LockTTL = locking.DefaultTTL
	}
	if o.LockRenewEvery == 0 {
		o.LockRenewEvery = o.LockTTL / 3
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.DefaultRegisterer
	}
	if o.Gatherer == nil {
		if g, ok := o.Registerer.(prometheus.Gatherer); ok {
			o.Gatherer = g
		} else {
			o.Gatherer = prometheus.DefaultGatherer
		}
	}
	if o.Redis.Logger == nil {
		o.Redis.Logger = o.Logger
	}
	if o.Redis.Registerer == nil {
		o.Redis.Registerer = o.Registerer
	}
	if o.Redis.TracerProvider == nil {
		o.Redis.TracerProvider = o.TracerProvider
	}
	return o
}

// validate tells everything that is wrong with o, and with the environment that
// filled it.
func (o Options) validate(environment error) error {
	errs := []error{environment}
	positive := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("worker: %s is %v; use 0 for the default, or a positive duration", name, d))
		}
	}
	positive("StartTimeout", o.StartTimeout)
	positive("DrainTimeout", o.DrainTimeout)
	if slices.Contains(o.GatedTaskQueues, "") {
		errs = append(errs, errors.New("worker: GatedTaskQueues has an empty name; list the names of task queues"))
	}
	errs = append(errs, o.Redis.Validate(), o.interceptors().Validate(), o.validateLocks(), o.validateLockMasters(), o.validateEvents())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	return nil
}

// validateLocks and validateEvents check what goes down to those packages. What
// is called otherwise there is refused here, under the name that the host used.
func (o Options) validateLocks() error {
	switch {
	case o.LockTTL < locking.MinTTL:
		return fmt.Errorf("worker: LockTTL is %v; use 0 for the default (%v), or at least %v", o.LockTTL, locking.DefaultTTL, locking.MinTTL)
	case o.LockRenewEvery != 0 && (o.LockRenewEvery < locking.MinRenewEvery || o.LockRenewEvery > o.LockTTL/2):
		return fmt.Errorf("worker: LockRenewEvery is %v; use 0 for a third of LockTTL, or %v to half of it (%v)", o.LockRenewEvery, locking.MinRenewEvery, o.LockTTL/2)
	}
	if o.LockQuarantine > 0 && o.LockQuarantine < o.LockTTL {
		return fmt.Errorf("worker: LockQuarantine is %v; use at least LockTTL (%v), 0 for the default, or a negative one to switch it off", o.LockQuarantine, o.LockTTL)
	}
	return o.locks("").Validate()
}

func (o Options) validateEvents() error {
	events := o.events("")
	if o.FlushTimeout >= time.Millisecond {
		return events.Validate()
	}
	events.DrainTimeout = 0 // its default is right
	return errors.Join(
		fmt.Errorf("worker: FlushTimeout is %v; use 0 for the default (%v), or at least 1ms", o.FlushTimeout, DefaultFlushTimeout),
		events.Validate(),
	)
}

func (o Options) interceptors() interceptors.Options {
	return interceptors.Options{
		DefaultPolicy: o.DefaultPolicy,
		Policies:      o.Policies,
		LockWait:      o.LockWait,
		LockKey:       o.LockKey,
		LockKeys:      o.LockKeys,
		WorkflowID:    o.WorkflowID,
		RetryDelay:    o.RetryDelay,
		Pause:         o.Pause,
		Logger:        o.Logger,
		Registerer:    o.Registerer,
	}
}

func (o Options) locks(namespace string) locking.Options {
	return locking.Options{
		Namespace:      namespace,
		TTL:            o.LockTTL,
		RenewEvery:     o.LockRenewEvery,
		Quarantine:     o.LockQuarantine,
		Logger:         o.Logger,
		Registerer:     o.Registerer,
		TracerProvider: o.TracerProvider,
	}
}

func (o Options) events(namespace string) notifier.PublisherOptions {
	return notifier.PublisherOptions{
		Namespace:     namespace,
		ChannelPrefix: o.ChannelPrefix,
		Sharded:       o.ShardedEvents,
		DrainTimeout:  o.FlushTimeout,
		Logger:        o.Logger,
		Registerer:    o.Registerer,
	}
}

func (o Options) subscriptions(namespace string) notifier.SubscriberOptions {
	return notifier.SubscriberOptions{
		Namespace:     namespace,
		ChannelPrefix: o.ChannelPrefix,
		Sharded:       o.ShardedEvents,
		Logger:        o.Logger,
		Registerer:    o.Registerer,
	}
}
