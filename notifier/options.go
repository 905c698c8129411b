package notifier

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// PublisherOptions are the settings of a publisher. The zero value works.
type PublisherOptions struct {
	// Namespace is the prefix of all keys: letters, digits and - . _ ~ : %.
	// Defaults to "temporal-redis".
	Namespace string
	// ChannelPrefix goes before the channel names workflow:<id>, same
	// characters. Publisher and subscriber must agree on it. Defaults to none.
	ChannelPrefix string
	// Sharded publishes by SPUBLISH, for subscribers with the same setting: on a
	// Cluster a message then reaches the nodes of its slot only, not all. Defaults to
	// false. Without a Cluster it is refused.
	Sharded bool
	// LogLength is how many events of a workflow id the log keeps, 16 to
	// 10,000. Defaults to 500.
	LogLength int
	// SnapshotTasks is how many tasks of a workflow id the snapshot keeps, 16
	// to 1,000,000: when there are more, the oldest finished ones go first.
	// Defaults to 5,000.
	SnapshotTasks int
	// Retention is how long log and snapshot outlive the last event, at least
	// 1 s. Defaults to 24 h.
	Retention time.Duration
	// Buffer is how many events may wait for Redis in this process, at least
	// 16. Past it the publisher keeps the last status of each task, then drops
	// the oldest events. Defaults to 8192.
	Buffer int
	// MaxDataBytes is the largest Event.Data accepted, 1 B to 1 MiB. Defaults
	// to 16 KiB.
	MaxDataBytes int
	// Concurrency is how many workflow ids are published at the same time, 1 to
	// 256; each uses one connection for one round trip. Defaults to 8.
	Concurrency int
	// Timeout bounds one round trip, at least 1 ms. Defaults to 3 s.
	Timeout time.Duration
	// DrainTimeout bounds Flush and Close when their context has no deadline,
	// at least 1 ms. Defaults to 5 s.
	DrainTimeout time.Duration
	// Logger receives the start and end of outages, and drops. Defaults to
	// slog.Default().
	Logger *slog.Logger
	// Registerer receives the metrics. Defaults to
	// prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer
	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
}

// SubscriberOptions are the settings of a subscriber. The zero value works.
type SubscriberOptions struct {
	// Namespace is the prefix of all keys, as in PublisherOptions. Defaults to
	// "temporal-redis".
	Namespace string
	// ChannelPrefix goes before the channel names, as in PublisherOptions.
	// Defaults to none.
	ChannelPrefix string
	// Sharded subscribes by SSUBSCRIBE, with a connection to each owner of a channel's
	// slot; publishers have the same setting. SubscribeAll then hears of new workflows
	// by looking each CheckEvery. Defaults to false. Without a Cluster it is refused.
	Sharded bool
	// Buffer is how many events of a workflow id are held for subscriptions
	// that are behind, 1 to 100,000. One that is further behind reads the log
	// in Redis. Defaults to 1024.
	Buffer int
	// CheckEvery is how often a quiet log is read without having been rung for,
	// which finds what a broken connection lost; at least 10 ms. Defaults to
	// 2 s.
	CheckEvery time.Duration
	// ProbeEvery is how often the pub/sub connection is probed; it is made anew
	// when nothing came for three times as long. At least 50 ms. Defaults to
	// 1 s.
	ProbeEvery time.Duration
	// StatusEvery is how long a log is quiet before a status source is asked (see
	// WithStatusSource), at least 10 ms; it grows to twelve times as long while that
	// has no news either, but not above 10 s while it does not answer. While Redis is
	// away the source is asked each second, and up to ten times as seldom while it has no
	// news. Defaults to 5 s.
	StatusEvery time.Duration
	// ConnectTimeout bounds how long Subscribe waits for Redis, beside its
	// context; at least 1 ms. Defaults to 5 s.
	ConnectTimeout time.Duration
	// Timeout bounds one round trip, at least 1 ms. Defaults to 3 s.
	Timeout time.Duration
	// Logger receives losses and returns of the connection, and gaps. Defaults
	// to slog.Default().
	Logger *slog.Logger
	// Registerer receives the metrics. Defaults to
	// prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer
	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	setDefault(&o.LogLength, 500)
	setDefault(&o.SnapshotTasks, 5000)
	setDefault(&o.Retention, 24*time.Hour)
	setDefault(&o.Buffer, 8192)
	setDefault(&o.MaxDataBytes, 16<<10)
	setDefault(&o.Concurrency, 8)
	setDefault(&o.Timeout, 3*time.Second)
	setDefault(&o.DrainTimeout, 5*time.Second)
	return o
}

func (o SubscriberOptions) withDefaults() SubscriberOptions {
	setDefault(&o.Buffer, 1024)
	setDefault(&o.CheckEvery, 2*time.Second)
	setDefault(&o.ProbeEvery, time.Second)
	setDefault(&o.StatusEvery, 5*time.Second)
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.Timeout, 3*time.Second)
	return o
}

// Validate checks every field, without network. The error names each wrong
// field and wraps ErrInvalidOptions.
func (o PublisherOptions) Validate() error { return o.withDefaults().validate() }

// Validate checks every field, without network. The error names each wrong
// field and wraps ErrInvalidOptions.
func (o SubscriberOptions) Validate() error { return o.withDefaults().validate() }

func (o PublisherOptions) validate() error {
	return invalid("PublisherOptions",
		prefixes(o.Namespace, o.ChannelPrefix),
		within("LogLength", o.LogLength, 16, 10_000),
		within("SnapshotTasks", o.SnapshotTasks, 16, 1_000_000),
		within("Retention", o.Retention, time.Second, maxDuration),
		within("Buffer", o.Buffer, 16, 100_000_000),
		within("MaxDataBytes", o.MaxDataBytes, 1, 1<<20),
		within("Concurrency", o.Concurrency, 1, 256),
		within("Timeout", o.Timeout, time.Millisecond, maxDuration),
		within("DrainTimeout", o.DrainTimeout, time.Millisecond, maxDuration),
	)
}

func (o SubscriberOptions) validate() error {
	return invalid("SubscriberOptions",
		prefixes(o.Namespace, o.ChannelPrefix),
		within("Buffer", o.Buffer, 1, 100_000),
		within("CheckEvery", o.CheckEvery, 10*time.Millisecond, maxDuration),
		within("ProbeEvery", o.ProbeEvery, 50*time.Millisecond, maxDuration),
		within("StatusEvery", o.StatusEvery, 10*time.Millisecond, maxDuration),
		within("ConnectTimeout", o.ConnectTimeout, time.Millisecond, maxDuration),
		within("Timeout", o.Timeout, time.Millisecond, maxDuration),
	)
}

// clusterOf is the client if it has shards.
func clusterOf(sharded bool, client redis.UniversalClient) (*redis.ClusterClient, error) {
	if !sharded {
		return nil, nil //nolint:nilnil // none is needed
	}
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return nil, fmt.Errorf("notifier: %w: Sharded needs a Cluster's client, not a %T; leave it false", ErrInvalidOptions, client)
	}
	return cluster, nil
}

func prefixes(namespace, channelPrefix string) error {
	_, errNamespace := keys.NewSpace(namespace, "")
	_, errChannel := keys.NewSpace("", channelPrefix)
	return errors.Join(errNamespace, errChannel)
}

// maxDuration keeps durations within what Redis takes as a time to live.
const maxDuration = 10 * 365 * 24 * time.Hour

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func within[T int | time.Duration](field string, value, low, high T) error {
	if value < low || value > high {
		return fmt.Errorf("%s is %v; use %v to %v", field, value, low, high)
	}
	return nil
}

func invalid(what string, errs ...error) error {
	joined := make([]error, 0, len(errs))
	for _, err := range errs {
		if err != nil {
			joined = append(joined, fmt.Errorf("notifier: %w: %s: %w", ErrInvalidOptions, what, err))
		}
	}
	return errors.Join(joined...)
}

func newTelemetry(l *slog.Logger, r prometheus.Registerer, t trace.TracerProvider) (*telemetry.Telemetry, error) {
	tel, err := telemetry.New(telemetry.Config{Logger: l, Registerer: r, TracerProvider: t})
	if err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	return tel, nil
}
