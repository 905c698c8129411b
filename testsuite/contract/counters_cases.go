package contract

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/redisstate"
)

// counts adds to a counter and fails the test unless it then is want.
func counts(tb testing.TB, c *redisstate.Counters, name string, delta, want int64) {
	tb.Helper()
	if n, err := c.Incr(tb.Context(), name, delta); err != nil || n != want {
		tb.Fatalf("%s is %d, %v; want %d", name, n, err, want)
	}
}

// stands fails the test unless the numbers are exactly these.
func stands(tb testing.TB, c *redisstate.Counters, counters map[string]int64, gauges map[string]float64) {
	tb.Helper()
	got, err := c.Snapshot(tb.Context())
	if err != nil || !maps.Equal(got.Counters, counters) || !maps.Equal(got.Gauges, gauges) {
		tb.Fatalf("got %v, %v; want %v, %v", got, err, counters, gauges)
	}
}

func gauge(tb testing.TB, c *redisstate.Counters, name string, v float64) {
	tb.Helper()
	if err := c.SetGauge(tb.Context(), name, v); err != nil {
		tb.Fatal(err)
	}
}

func counterCounts(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	stands(tb, c, nil, nil)
	counts(tb, c, "a", 0, 0)
	stands(tb, c, map[string]int64{"a": 0}, nil)
	counts(tb, c, "a", 1, 1)
	counts(tb, c, "a", 41, 42)
	counts(tb, c, "big", math.MaxInt64, math.MaxInt64)
	stands(tb, c, map[string]int64{"a": 42, "big": math.MaxInt64}, nil)
}

func counterOverProcesses(tb testing.TB, b CountersBackend) {
	one, two := b.Open(tb), b.Open(tb)
	counts(tb, one, "a", 1, 1)
	counts(tb, two, "a", 2, 3)
	counts(tb, one, "a", 4, 7)
	stands(tb, b.Open(tb), map[string]int64{"a": 7}, nil)
}

func counterManyAdd(tb testing.TB, b CountersBackend) {
	const adders, rounds = 8, 25
	var all sync.WaitGroup
	for range adders {
		c := b.Open(tb)
		all.Go(func() {
			for range rounds {
				if _, err := c.Incr(tb.Context(), "a", 2); err != nil {
					tb.Error(err)
				}
				if _, err := c.AddGauge(tb.Context(), "g", -0.5); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	all.Wait()
	stands(tb, b.Open(tb), map[string]int64{"a": 2 * adders * rounds}, map[string]float64{"g": -adders * rounds / 2})
}

func counterGauges(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	for _, v := range []float64{0, 1, -2.5, 1e15, 1e-7, math.MaxInt32} {
		gauge(tb, c, "g", v)
		stands(tb, b.Open(tb), map[string]int64{}, map[string]float64{"g": v})
	}
	gauge(tb, c, "g", 10)
	for _, step := range []struct{ delta, want float64 }{{0.5, 10.5}, {-20, -9.5}, {0, -9.5}} {
		if v, err := c.AddGauge(tb.Context(), "g", step.delta); err != nil || v != step.want {
			tb.Fatalf("g is %v, %v; want %v", v, err, step.want)
		}
	}
	if v, err := c.AddGauge(tb.Context(), "fresh", 1.5); err != nil || v != 1.5 {
		tb.Fatalf("got %v, %v", v, err)
	}
}

func counterKindsApart(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	gauge(tb, c, "a", 2.5)
	counts(tb, c, "a", 1, 2)
	stands(tb, c, map[string]int64{"a": 2}, map[string]float64{"a": 2.5})
}

func counterSnapshots(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counters, gauges := map[string]int64{}, map[string]float64{}
	for i := range 50 {
		name := fmt.Sprintf("n_%d", i)
		counters[name], gauges[name] = int64(i), float64(i)/2
		counts(tb, c, name, int64(i), int64(i))
		gauge(tb, c, name, float64(i)/2)
	}
	stands(tb, b.Open(tb), counters, gauges)
}

func counterDeletes(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	counts(tb, c, "b", 1, 1)
	gauge(tb, c, "a", 1)
	for _, names := range [][]string{{"a", "none"}, {"a"}, {}} {
		if err := c.Delete(tb.Context(), names...); err != nil {
			tb.Fatal(err)
		}
	}
	stands(tb, b.Open(tb), map[string]int64{"b": 1}, nil)
	counts(tb, c, "a", 5, 5)
}

func counterRefusesNames(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "kept", 1, 1)
	for _, bad := range []string{
		"", "A", "a-b", "a b", "a:b", "ä", "a\n", "a\x00", "\xff", "{a}", "*", strings.Repeat("a", 65), strings.Repeat("a", 100_000),
	} {
		_, incr := c.Incr(tb.Context(), bad, 1)
		_, add := c.AddGauge(tb.Context(), bad, 1)
		for what, err := range map[string]error{
			"incr": incr, "add": add, "set": c.SetGauge(tb.Context(), bad, 1), "delete": c.Delete(tb.Context(), "kept", bad),
		} {
			if !errors.Is(err, redisstate.ErrInvalidKey) {
				tb.Fatalf("%s %.20q: got %v; want ErrInvalidKey", what, bad, err)
			}
			oneLine(tb, err)
		}
	}
	stands(tb, c, map[string]int64{"kept": 1}, nil)
	counts(tb, c, strings.Repeat("a", 64), 1, 1)
	counts(tb, c, "0_", 1, 1)
}

func counterRefusesNumbers(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	for _, delta := range []int64{-1, math.MinInt64} {
		if _, err := c.Incr(tb.Context(), "a", delta); !errors.Is(err, redisstate.ErrInvalidValue) {
			tb.Fatalf("%d: got %v", delta, err)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, add := c.AddGauge(tb.Context(), "g", v)
		for _, err := range []error{add, c.SetGauge(tb.Context(), "g", v)} {
			if !errors.Is(err, redisstate.ErrInvalidValue) {
				tb.Fatalf("%v: got %v", v, err)
			}
		}
	}
	stands(tb, c, nil, nil)
}

func counterBoundsNames(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	for i := range redisstate.MaxCounters {
		counts(tb, c, fmt.Sprint("n", i), 1, 1)
		gauge(tb, c, fmt.Sprint("n", i), 1)
	}
	for _, c := range []*redisstate.Counters{c, b.Open(tb)} {
		_, incr := c.Incr(tb.Context(), "more", 1)
		for _, err := range []error{incr, c.SetGauge(tb.Context(), "more", 1)} {
			if !errors.Is(err, redisstate.ErrTooManyNames) {
				tb.Fatalf("got %v; want ErrTooManyNames", err)
			}
			oneLine(tb, err)
		}
		n, err := c.Incr(tb.Context(), "n7", 1)
		if err != nil || n < 2 {
			tb.Fatalf("a name that is there gave %d, %v", n, err)
		}
		gauge(tb, c, "n7", 2)
	}
	if err := c.Delete(tb.Context(), "n0"); err != nil {
		tb.Fatal(err)
	}
	counts(tb, c, "more", 1, 1)
}

func counterExpires(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	gauge(tb, c, "g", 1)
	for i := range int64(3) {
		b.Pass(tb, redisstate.CountersTTL*3/4)
		counts(tb, c, "b", 1, i+1)
	}
	stands(tb, b.Open(tb), map[string]int64{"a": 1, "b": 3}, map[string]float64{}) // the gauges were not written
	b.Pass(tb, redisstate.CountersTTL+time.Minute)
	stands(tb, c, nil, nil)
	counts(tb, c, "a", 1, 1)
}

func counterForgets(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 5, 5)
	b.Flush(tb)
	stands(tb, c, nil, nil)
	counts(tb, c, "a", 1, 1)
}

// exported are the samples of a collector by metric and name.
func exported(tb testing.TB, c prometheus.Collector) map[string]float64 {
	tb.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		tb.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			key := family.GetName()
			for _, label := range m.GetLabel() {
				if label.GetName() == "name" {
					key += " " + label.GetValue()
				}
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func counterExports(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 3, 3)
	gauge(tb, c, "g", -1.5)
	got := exported(tb, b.Open(tb).Collector())
	if at := got["redis_shared_snapshot_timestamp_seconds"]; time.Since(time.UnixMilli(int64(at*1000))).Abs() > time.Minute {
		tb.Fatalf("told at %v", at)
	}
	delete(got, "redis_shared_snapshot_timestamp_seconds")
	if want := map[string]float64{"redis_shared_total a": 3, "redis_shared_value g": -1.5}; !maps.Equal(got, want) {
		tb.Fatalf("got %v; want %v", got, want)
	}
}

func counterTellsCorrupt(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "good", 1, 1)
	gauge(tb, c, "good", 2)
	for _, text := range []string{"s3cret", "1e", "nan", "inf", "--1"} {
		b.Damage(tb, "bad", text)
		got, err := c.Snapshot(tb.Context())
		if !errors.Is(err, redisstate.ErrCorrupt) || strings.Contains(err.Error(), text) {
			tb.Fatalf("%s: got %v", text, err)
		}
		oneLine(tb, err)
		if len(got.Counters) != 1 || got.Counters["good"] != 1 || len(got.Gauges) != 1 || got.Gauges["good"] != 2 {
			tb.Fatalf("%s: got %v", text, got)
		}
		if all := exported(tb, c.Collector()); all["redis_shared_total good"] != 1 || len(all) != 3 {
			tb.Fatalf("%s: exported %v", text, all)
		}
	}
	if _, err := c.Incr(tb.Context(), "bad", 1); err == nil || strings.Contains(err.Error(), "--1") {
		tb.Fatalf("got %v", err)
	}
	if err := c.Delete(tb.Context(), "bad"); err != nil {
		tb.Fatal(err)
	}
	b.Damage(tb, "Not a name", "1") // another program's
	stands(tb, c, map[string]int64{"good": 1}, map[string]float64{"good": 2})
}

func counterTellsWrongType(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	b.Damage(tb, "", "")
	_, known := c.Incr(tb.Context(), "a", 1)
	_, fresh := c.Incr(tb.Context(), "b", 1)
	_, snapshot := c.Snapshot(tb.Context())
	for what, err := range map[string]error{
		"incr": known, "incr anew": fresh, "set": c.SetGauge(tb.Context(), "g", 1), "snapshot": snapshot, "delete": c.Delete(tb.Context(), "a"),
	} {
		if !errors.Is(err, redisstate.ErrWrongType) || errors.Is(err, redisstate.ErrOutcomeUnknown) {
			tb.Fatalf("%s: got %v; want ErrWrongType", what, err)
		}
		oneLine(tb, err)
	}
}

func counterEndsWithContext(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, incr := c.Incr(ctx, "a", 1)
	_, fresh := c.Incr(ctx, "b", 1)
	_, snapshot := c.Snapshot(ctx)
	for what, err := range map[string]error{"incr": incr, "incr anew": fresh, "snapshot": snapshot, "delete": c.Delete(ctx, "a")} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, redisstate.ErrOutcomeUnknown) {
			tb.Fatalf("%s: got %v", what, err)
		}
	}
	stands(tb, c, map[string]int64{"a": 1}, nil)
}

func counterEndsWithClose(tb testing.TB, b CountersBackend) {
	c := b.Open(tb)
	counts(tb, c, "a", 1, 1)
	collector := c.Collector()
	for range 2 {
		if err := c.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	_, incr := c.Incr(tb.Context(), "a", 1)
	_, snapshot := c.Snapshot(tb.Context())
	for what, err := range map[string]error{"incr": incr, "snapshot": snapshot, "set": c.SetGauge(tb.Context(), "g", 1), "delete": c.Delete(tb.Context(), "a")} {
		if !errors.Is(err, redisstate.ErrClosed) {
			tb.Fatalf("%s: got %v", what, err)
		}
	}
	if got := exported(tb, collector); len(got) != 0 {
		tb.Fatalf("exported %v", got)
	}
	stands(tb, b.Open(tb), map[string]int64{"a": 1}, nil)
}
