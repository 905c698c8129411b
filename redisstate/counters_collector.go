package redisstate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// collectTimeout bounds what a scrape waits for Redis.
const collectTimeout = time.Second

// Collector exports the counters and gauges, read from Redis at each scrape:
//
//	redis_shared_total{namespace,name}
//	redis_shared_value{namespace,name}
//	redis_shared_snapshot_timestamp_seconds{namespace}
//
// The last one is when Redis last told them (Unix time): a scrape waits for
// Redis at most a second and then gives what was told before, or nothing if
// nothing ever was. At most MaxCounters names are exported of each kind, the
// first ones in alphabetical order.
//
// The numbers are those of all processes, so register it in one of them, or
// take the max over instances, never the sum. Prometheus takes a counter that
// fell, after an expiry, a flush or a failover, for one that began again.
func (c *Counters) Collector() prometheus.Collector {
	return &countersCollector{counters: c, descs: telemetry.NewShared(c.space.Namespace()), timeout: collectTimeout}
}

type countersCollector struct {
	counters *Counters
	descs    telemetry.Shared
	timeout  time.Duration

	mu      sync.Mutex
	reading chan struct{} // closed when the read under way is over; nil: none is
	last    CountersSnapshot
	at      time.Time // of last; zero: there was none
}

// Describe implements prometheus.Collector.
func (c *countersCollector) Describe(to chan<- *prometheus.Desc) { c.descs.Describe(to) }

// Collect implements prometheus.Collector. Scrapes at the same time share one
// read, and one that Redis or a client without deadlines holds up is left to end
// by itself.
func (c *countersCollector) Collect(to chan<- prometheus.Metric) {
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case <-c.read():
	case <-timer.C:
	}
	c.mu.Lock()
	last, at := c.last, c.at
	c.mu.Unlock()
	if at.IsZero() {
		return
	}
	for _, name := range firstNames(last.Counters) {
		to <- prometheus.MustNewConstMetric(c.descs.Counter, prometheus.CounterValue, float64(last.Counters[name]), name)
	}
	for _, name := range firstNames(last.Gauges) {
		to <- prometheus.MustNewConstMetric(c.descs.Gauge, prometheus.GaugeValue, last.Gauges[name], name)
	}
	to <- prometheus.MustNewConstMetric(c.descs.Timestamp, prometheus.GaugeValue, float64(at.UnixMilli())/1000)
}

// read starts a read unless one is under way and returns what is closed at its
// end.
func (c *countersCollector) read() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading != nil {
		return c.reading
	}
	done := make(chan struct{})
	c.reading = done
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
		defer cancel()
		snapshot, err := c.counters.Snapshot(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil || errors.Is(err, ErrCorrupt) { // the others are good
			c.last, c.at = snapshot, time.Now()
		}
		c.reading = nil
		close(done)
	}()
	return done
}

// firstNames bounds the values of a label, whatever is in Redis.
func firstNames[N any](of map[string]N) []string {
	names := slices.Sorted(maps.Keys(of))
	return names[:min(len(names), MaxCounters)]
}
