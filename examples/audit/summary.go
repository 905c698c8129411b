package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/examples/audit/flow"
	"github.com/compozy/temporal-redis/examples/audit/screen"
)

// summary is what a run amounts to.
type summary struct {
	result   flow.Result
	view     *screen.Screen
	registry *prometheus.Registry
	history  int64 // bytes, 0 if unknown
}

func (s summary) print(out io.Writer) error {
	r, late := s.result, slices.Sorted(slices.Values(s.view.Latencies()))
	lines := []string{
		fmt.Sprintf("tasks       %d run, %d seen in events", r.Tasks, s.view.Tasks()),
		fmt.Sprintf("configs     %d in Redis", r.Configs),
		fmt.Sprintf("history     %s kept out of it: %s of configs, %s of refs instead",
			bytesText(r.ConfigBytes-r.RefBytes), bytesText(r.ConfigBytes), bytesText(r.RefBytes)),
	}
	if s.history > 0 {
		lines = append(lines, fmt.Sprintf("            %s is what Temporal stored", bytesText(int(s.history))))
	}
	lines = append(lines,
		fmt.Sprintf("cache hits  %.0f near, %.0f redis", s.metric("redis_cache_hits", "near"), s.metric("redis_cache_hits", "redis")),
		fmt.Sprintf("lock waits  %.0f of %.0f acquisitions", s.metric("redis_lock_contention_total", ""), s.metric("redis_lock_acquire_total", "")),
		fmt.Sprintf("events      %d received", s.view.Events()),
		fmt.Sprintf("latency     publish to screen p50 %s, p99 %s", millis(quantile(late, .50)), millis(quantile(late, .99))),
	)
	_, err := fmt.Fprintf(out, "\n%s\n", strings.Join(lines, "\n"))
	return err
}

// metric adds up a counter over its labels; label picks one value of them.
func (s summary) metric(name, label string) float64 {
	families, err := s.registry.Gather()
	if err != nil {
		return 0
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			match := label == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetValue() == label
			}
			if match {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

// quantile is the value below which a share q of the sorted values lies.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func bytesText(n int) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
