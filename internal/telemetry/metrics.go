package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are all collectors of the module. The first three names are fixed by
// the product requirements and therefore lack the usual suffixes.
type Metrics struct {
	CacheHits      *prometheus.CounterVec // redis_cache_hits{cache}
	LockContention prometheus.Counter     // redis_lock_contention_total
	PubSubMsgs     *prometheus.CounterVec // redis_pubsub_msgs_total{direction}

	CacheMisses *prometheus.CounterVec   // redis_cache_misses{cache}
	OpDuration  *prometheus.HistogramVec // redis_operation_duration_seconds{op,outcome}

	SourceLoads   *prometheus.CounterVec // redis_source_loads_total{outcome}
	CacheBypass   *prometheus.CounterVec // redis_cache_bypass_seconds_total{cache}
	NearCache     *prometheus.CounterVec // redis_near_cache_total{event}
	StateCache    *prometheus.CounterVec // redis_state_cache_total{event}
	TTLExtensions *prometheus.CounterVec // redis_ttl_extensions_total{outcome}
	KeyUses       *prometheus.CounterVec // redis_encryption_key_uses_total{key,use}

	LockAcquire *prometheus.CounterVec // redis_lock_acquire_total{outcome}
	LockWait    prometheus.Histogram   // redis_lock_wait_seconds
	LockHold    prometheus.Histogram   // redis_lock_hold_seconds
	LockLost    *prometheus.CounterVec // redis_lock_lost_total{reason}

	PubSubLatency prometheus.Histogram   // redis_pubsub_latency_seconds
	PublishBuffer prometheus.Gauge       // redis_publish_buffer_events
	PublishDrops  prometheus.Counter     // redis_publish_dropped_total
	PublishErrors *prometheus.CounterVec // redis_publish_errors_total{class}

	ActivityRetries   *prometheus.CounterVec // redis_activity_retries_total{type}
	ActivitiesHolding prometheus.Gauge       // redis_activities_holding
	ActivityPause     *prometheus.CounterVec // redis_activity_pause_seconds_total{layer}

	HealthState   *prometheus.GaugeVec   // redis_health_state{client,state}
	Outages       *prometheus.CounterVec // redis_outages_total{client,reason}
	OutageSeconds *prometheus.CounterVec // redis_outage_seconds_total{client}

	PausedPolls prometheus.Gauge // redis_paused_polls
}

// Label values of Metrics.PubSubMsgs.
const (
	Published = "published"
	Received  = "received"
)

// Label values of Metrics.CacheHits and CacheMisses.
const (
	CacheNear  = "near"  // the in-process cache of a worker
	CacheRedis = "redis" // Redis itself, in front of the source of truth
	CacheState = "state" // Redis, in front of the host's database: redisstate.Cache
)

// Label values of Metrics.SourceLoads.
const (
	SourceLoaded   = "loaded"
	SourceUnsaved  = "unsaved"  // loaded and served, but Redis did not take it
	SourceMissing  = "missing"  // the source does not have it
	SourceMismatch = "mismatch" // it has other content than the ref names
	SourceFailed   = "failed"
)

// Label values of Metrics.TTLExtensions.
const (
	ExtensionSent    = "sent"
	ExtensionDropped = "dropped" // the queue was full
	ExtensionFailed  = "failed"  // Redis did not take it
)

// Label values of Metrics.KeyUses, beside the ids of keys.
const (
	Encrypted = "encrypt"
	Decrypted = "decrypt"
)

// Label values of Metrics.NearCache.
const (
	NearFilled    = "filled"    // which content an id has was remembered
	NearOvertaken = "overtaken" // it was not, because it changed meanwhile
	NearBell      = "bell"      // a process said that an id changed
	NearFlushed   = "flushed"   // everything was forgotten, because such a word may have been missed
)

// Label values of Metrics.StateCache.
const (
	StateStale       = "stale"       // a state that was invalidated was there and not used
	StateBypass      = "bypass"      // a read went to the database because a change was under way, or Redis away
	StateInvalidated = "invalidated" // a state was taken out
	StateWritten     = "written"     // a state was put in, or a part of it, by the change that made it
	StateUnfit       = "unfit"       // a state could not be encoded or decoded, or is too large
	StateRefused     = "refused"     // a change did not begin, because Redis did not take its mark
	StateUnknown     = "unknown"     // a change ended so that nobody knows whether it was committed: no state until its mark expires
	StateUnconfirmed = "unconfirmed" // Redis did not take what followed a change: no state until its mark expires
)

// Label values of Metrics.HealthState.
const (
	HealthUnknown  = "unknown" // nothing was asked yet
	HealthUp       = "up"
	HealthDegraded = "degraded" // something failed, or a part of a Cluster is away
	HealthDown     = "down"
)

// fast covers what Redis and the near cache take: 50 us to 5 s.
var fast = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5}

// slow covers lock waits and holds: 1 ms to 10 min.
var slow = []float64{.001, .005, .025, .1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

func newMetrics(reg prometheus.Registerer) (*Metrics, error) {
	r := &registrar{reg: reg}
	m := &Metrics{
		CacheHits:      r.counterVec("redis_cache_hits", "Reads of configs and states answered, by the cache that answered.", "cache"),
		LockContention: r.counter("redis_lock_contention_total", "Lock acquisitions that found the lock held by another."),
		PubSubMsgs:     r.counterVec("redis_pubsub_msgs_total", "Events published to and received from Redis pub/sub.", "direction"),

		CacheMisses: r.counterVec("redis_cache_misses", "Reads of configs and states that the named cache could not answer.", "cache"),
		CacheBypass: r.counterVec("redis_cache_bypass_seconds_total", "Time for which reads went past the named cache: near, without word from Redis; state, in loads that could not be kept.", "cache"),
		OpDuration:  r.histogramVec("redis_operation_duration_seconds", "Duration of Redis commands and pipelines.", fast, "op", "outcome"),

		SourceLoads:   r.counterVec("redis_source_loads_total", "Configs that were not in Redis and were asked of the host's Source, by outcome.", "outcome"),
		TTLExtensions: r.counterVec("redis_ttl_extensions_total", "Times to live that reads asked to extend, by outcome.", "outcome"),

		KeyUses: r.counterVec("redis_encryption_key_uses_total", "Values encrypted and decrypted, by the id of the key.", "key", "use"),

		NearCache:  r.counterVec("redis_near_cache_total", "What happened to the near cache of current configs beside hits, by event.", "event"),
		StateCache: r.counterVec("redis_state_cache_total", "What happened to cached states beside hits and misses, by event.", "event"),

		LockAcquire: r.counterVec("redis_lock_acquire_total", "Lock acquisitions, by outcome.", "outcome"),
		LockWait:    r.histogram("redis_lock_wait_seconds", "Time from asking for a lock to its grant.", slow),
		LockHold:    r.histogram("redis_lock_hold_seconds", "Time from the grant of a lock to its release or loss.", slow),
		LockLost:    r.counterVec("redis_lock_lost_total", "Leases that ended before their release, by reason.", "reason"),

		PubSubLatency: r.histogram("redis_pubsub_latency_seconds", "Time from an event's creation to its reception by a subscriber.", fast),
		PublishBuffer: r.gauge("redis_publish_buffer_events", "Events waiting in the background publisher."),
		PublishDrops:  r.counter("redis_publish_dropped_total", "Events dropped because the publisher's buffer was full."),
		PublishErrors: r.counterVec("redis_publish_errors_total", "Failed attempts to publish, by class of error.", "class"),

		ActivityRetries: r.counterVec("redis_activity_retries_total", "Activity attempts given back to Temporal to be tried again, by type of error.", "type"),

		ActivitiesHolding: r.gauge("redis_activities_holding", "Activity attempts that wait for Redis in their slots, before user code."),
		ActivityPause:     r.counterVec("redis_activity_pause_seconds_total", "Time that activities waited for Redis or a lock: hold, in their slots; retry, until their next attempt.", "layer"),

		HealthState:   r.gaugeVec("redis_health_state", "How many clients of this name are in the state; with one plugin in the process, 1 for the present state and 0 for the others.", "client", "state"),
		Outages:       r.counterVec("redis_outages_total", "Outages of Redis that this client saw, by what began them.", "client", "reason"),
		OutageSeconds: r.counterVec("redis_outage_seconds_total", "Time for which this client saw Redis away.", "client"),

		PausedPolls: r.gauge("redis_paused_polls", "Polls for activities that wait at a closed slot gate."),
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, direction := range []string{Published, Received} {
		m.PubSubMsgs.WithLabelValues(direction)
	}
	for _, cache := range []string{CacheNear, CacheState} {
		m.CacheBypass.WithLabelValues(cache)
	}
	for _, cache := range []string{CacheNear, CacheRedis, CacheState} {
		m.CacheHits.WithLabelValues(cache)
		m.CacheMisses.WithLabelValues(cache)
	}
	for _, outcome := range []string{SourceLoaded, SourceUnsaved, SourceMissing, SourceMismatch, SourceFailed} {
		m.SourceLoads.WithLabelValues(outcome)
	}
	for _, outcome := range []string{ExtensionSent, ExtensionDropped, ExtensionFailed} {
		m.TTLExtensions.WithLabelValues(outcome)
	}
	for _, event := range []string{NearFilled, NearOvertaken, NearBell, NearFlushed} {
		m.NearCache.WithLabelValues(event)
	}
	for _, event := range []string{StateStale, StateBypass, StateInvalidated, StateWritten, StateUnfit, StateRefused, StateUnknown, StateUnconfirmed} {
		m.StateCache.WithLabelValues(event)
	}
	return m, nil
}

// registrar registers collectors, reuses those that are there already and keeps
// the first error.
type registrar struct {
	reg prometheus.Registerer
	err error
}

func register[C prometheus.Collector](r *registrar, c C) C {
	err := r.reg.Register(c)
	if err == nil {
		return c
	}
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := known.ExistingCollector.(C); ok {
			return existing
		}
	}
	if r.err == nil {
		r.err = err
	}
	return c
}

func (r *registrar) counter(name, help string) prometheus.Counter {
	return register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
}

func (r *registrar) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

func (r *registrar) gauge(name, help string) prometheus.Gauge {
	return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
}

func (r *registrar) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

func (r *registrar) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return register(r, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
}

func (r *registrar) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
}
