package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Shared describes the numbers that all processes of a namespace share through
// Redis. Their values of "name" are fixed by the host's program and bounded by
// who exports them.
type Shared struct {
	Counter   *prometheus.Desc // redis_shared_total{namespace,name}
	Gauge     *prometheus.Desc // redis_shared_value{namespace,name}
	Timestamp *prometheus.Desc // redis_shared_snapshot_timestamp_seconds{namespace}
}

// NewShared describes those of one namespace, so that those of several can be
// on one registry.
func NewShared(namespace string) Shared {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, prometheus.Labels{"namespace": namespace})
	}
	return Shared{
		Counter:   desc("redis_shared_total", "The host's counters, over all processes.", "name"),
		Gauge:     desc("redis_shared_value", "The host's gauges, over all processes.", "name"),
		Timestamp: desc("redis_shared_snapshot_timestamp_seconds", "When Redis last told the shared counters and gauges."),
	}
}

// Describe sends the descriptions, as a prometheus.Collector has to.
func (s Shared) Describe(to chan<- *prometheus.Desc) {
	to <- s.Counter
	to <- s.Gauge
	to <- s.Timestamp
}
