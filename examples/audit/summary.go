package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/examples/audit/check"
	"github.com/compozy/temporal-redis/examples/audit/flow"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/examples/audit/tools"
	"github.com/compozy/temporal-redis/internal/screen"
	"github.com/compozy/temporal-redis/redisstate"
)

// summary is what a run amounts to.
type summary struct {
	result   flow.Result
	view     *screen.Screen
	registry *prometheus.Registry
	history  int64 // bytes
	session  int   // values
	toolRuns int64
}

// summarize asks the servers what they kept of a run.
func (h *host) summarize(ctx context.Context, id string) (summary, error) {
	sum := summary{registry: h.registry}
	run, err := h.client.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return sum, fmt.Errorf("describe the workflow: %w", err)
	}
	info := run.GetWorkflowExecutionInfo()
	sum.history = info.GetHistorySizeBytes()
	sessions, err := h.plugin.Sessions(ctx)
	if err != nil {
		return sum, err
	}
	session, err := sessions.Open(redisstate.ExecutionID(id, info.GetExecution().GetRunId()))
	if err != nil {
		return sum, err
	}
	values, err := session.All(ctx)
	if err != nil {
		return sum, err
	}
	counters, err := h.plugin.Counters(ctx)
	if err != nil {
		return sum, err
	}
	counted, err := counters.Snapshot(ctx)
	sum.session, sum.toolRuns = len(values), counted.Counters[flow.ToolRuns]
	return sum, err
}

func (s summary) print(out io.Writer) error {
	r, late := s.result, slices.Sorted(slices.Values(s.view.Latencies()))
	_, err := fmt.Fprintf(out, `
tasks       %d run, %d seen in events
configs     %d in Redis, %.0f made again by the source
history     %.1f kB kept out of it: %.1f kB of configs, %.1f kB of refs instead
            %.1f kB is what Temporal stored
session     %d outputs, for attempts that are repeated
counters    %d tools run, by all runs on this Redis
cache hits  %.0f near, %.0f redis
lock waits  %.0f of %.0f acquisitions
events      %d received
latency     publish to screen p50 %s, p99 %s
`,
		r.Tasks, s.view.Tasks(), r.Configs, s.metric("redis_source_loads_total", "loaded"),
		kB(r.ConfigBytes-r.RefBytes), kB(r.ConfigBytes), kB(r.RefBytes), kB(int(s.history)), s.session, s.toolRuns,
		s.metric("redis_cache_hits", "near"), s.metric("redis_cache_hits", "redis"),
		s.metric("redis_lock_contention_total", ""), s.metric("redis_lock_acquire_total", ""),
		s.view.Events(), quantile(late, .50), quantile(late, .99))
	return err
}

func kB(bytes int) float64 { return float64(bytes) / 1000 }

// metric adds up a counter over its labels; label picks one value of them, ""
// all.
func (s summary) metric(name, label string) (total float64) {
	families, _ := s.registry.Gather() // what fails is missing
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if l := m.GetLabel(); family.GetName() == name && (label == "" || l[0].GetValue() == label) {
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
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(100 * time.Microsecond)
}

// verify counts the tree again and compares the report with it. A workflow that
// wrote no report has nothing to compare; one of an earlier run does not count.
func verify(stdout io.Writer, w *spec.Workflow, id string) error {
	tree, out := fmt.Sprint(w.With["tree"]), fmt.Sprint(w.With["out"])
	file := filepath.Join(out, tools.ReportName)
	var report check.Report
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &report)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && report.WorkflowID != id {
		_, err := fmt.Fprintln(stdout, "report      none; no task of the workflow wrote one")
		return err
	}
	var differences []string
	if err == nil {
		differences, err = check.Compare(report, tree, filepath.Join(out, tools.LedgerName(id)))
	}
	if err != nil {
		return fmt.Errorf("check the report: %w", err)
	}
	_, _ = fmt.Fprintln(stdout, "report      "+file)
	if n := len(differences); n > 0 {
		_, _ = fmt.Fprintln(stdout, "check       "+strings.Join(differences[:min(n, 10)], "\n            "))
		return fmt.Errorf("the report differs from the tree in %d places: a tool counted wrong, or the tree changed meanwhile", n)
	}
	t := report.Totals
	_, err = fmt.Fprintf(stdout, "check       right, counted again by other code:\n            %d packages, %d files, %d lines, %d functions, %d tests\n",
		len(report.Packages), t.Files, t.Lines, t.Functions, t.Tests)
	return err
}
