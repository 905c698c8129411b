package harness

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestQuantileIsASampleThatEnoughOthersDoNotExceed(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i) // not in order
	}
	before := slices.Clone(hundred)
	for _, c := range []struct {
		name    string
		samples []time.Duration
		q       float64
		want    time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"median of two is the lower", []time.Duration{9, 3}, 0.5, 3},
		{"p50", hundred, 0.50, 50},
		{"p99", hundred, 0.99, 99},
		{"least", hundred, 0, 1},
		{"greatest", hundred, 1, 100},
	} {
		if got := quantile(c.samples, c.q); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	if !slices.Equal(hundred, before) {
		t.Error("samples were sorted in place: they are kept in the order in which they were taken")
	}
}

func TestMedianAndSpread(t *testing.T) {
	t.Parallel()
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of four: %v", got)
	}
	if got := spread([]float64{4, 2, 1}); got != 1.5 {
		t.Errorf("spread: %v", got)
	}
	if !math.IsNaN(median(nil)) || !math.IsNaN(spread(nil)) {
		t.Error("nothing has a median")
	}
}

func TestResultsClaimFourDigits(t *testing.T) {
	t.Parallel()
	for in, want := range map[float64]float64{0: 0, 1.23456: 1.235, 123456: 123500, 0.000123456: 0.0001235, -2.00049: -2} {
		if got := significant(in); math.Abs(got-want) > 1e-12 {
			t.Errorf("significant(%v) = %v, want %v", in, got, want)
		}
	}
}

// rounds makes rounds of single samples in microseconds.
func roundsOf(pairs ...[2]int) []Round {
	var all []Round
	for _, p := range pairs {
		side := func(us int) Side {
			d := time.Duration(us) * time.Microsecond
			return Side{Samples: []time.Duration{d}, Operations: 1, Elapsed: d}
		}
		all = append(all, Round{Ours: side(p[0]), Theirs: side(p[1])})
	}
	return all
}

func TestValueIsTheMedianOfTheRoundsRatios(t *testing.T) {
	t.Parallel()
	// One round was disturbed on one side.
	rounds := roundsOf([2]int{20, 10}, [2]int{900, 10}, [2]int{22, 11})
	latency := Latency(rounds)
	if latency.Value != 2 || latency.Ours.Value != 22 || latency.Theirs.Value != 10 || latency.Ours.P99 != 900 {
		t.Errorf("latency: %+v", latency)
	}
	if speedup := Speedup(rounds); speedup.Value != 0.5 {
		t.Errorf("speedup: %+v", speedup)
	}
	throughput := Throughput(rounds)
	if throughput.Value != 0.5 || math.Round(throughput.Theirs.Value) != 100_000 || throughput.Unit != PerSecond {
		t.Errorf("throughput: %+v", throughput)
	}
	if want := (90 - 2) / 2.0; latency.Spread != want {
		t.Errorf("spread: got %v, want %v", latency.Spread, want)
	}
}

func TestBars(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bar  Bar
		v    float64
		met  bool
		text string
	}{
		{AtMost(1.1), 1.1, true, "<= 1.1"},
		{AtMost(1.1), 1.11, false, "<= 1.1"},
		{AtLeast(2), 2, true, ">= 2"},
		{AtLeast(2), 1.99, false, ">= 2"},
		{Bar{}, 5, true, "-"},
	} {
		if c.bar.Met(c.v) != c.met || c.bar.String() != c.text {
			t.Errorf("%s with %v: met %v", c.bar, c.v, c.bar.Met(c.v))
		}
	}
}
