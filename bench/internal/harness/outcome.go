package harness

import "time"

// Latency is the outcome "our p50 / their p50", in microseconds.
func Latency(rounds []Round) Outcome {
	return outcome(rounds, Microseconds, Side.p50, func(ours, theirs float64) float64 { return ours / theirs })
}

// Tail is the outcome "our p99 / their p99", in microseconds.
func Tail(rounds []Round) Outcome {
	return outcome(rounds, Microseconds, Side.p99, func(ours, theirs float64) float64 { return ours / theirs })
}

// Speedup is the outcome "their p50 / our p50", in microseconds.
func Speedup(rounds []Round) Outcome {
	return outcome(rounds, Microseconds, Side.p50, func(ours, theirs float64) float64 { return theirs / ours })
}

// Throughput is the outcome "our operations per second / theirs".
func Throughput(rounds []Round) Outcome {
	return outcome(rounds, PerSecond, Side.perSecond, func(ours, theirs float64) float64 { return ours / theirs })
}

func (s Side) p50() float64 { return micros(quantile(s.Samples, 0.50)) }

func (s Side) p99() float64 { return micros(quantile(s.Samples, 0.99)) }

// outcome takes one ratio and one figure of each side from every round, and
// their medians. A p99 needs the samples of all rounds.
func outcome(rounds []Round, unit string, figure func(Side) float64, ratio func(ours, theirs float64) float64) Outcome {
	var ratios, ours, theirs []float64
	var allOurs, allTheirs []time.Duration
	for _, r := range rounds {
		a, b := figure(r.Ours), figure(r.Theirs)
		ratios = append(ratios, ratio(a, b))
		ours, theirs = append(ours, a), append(theirs, b)
		allOurs = append(allOurs, r.Ours.Samples...)
		allTheirs = append(allTheirs, r.Theirs.Samples...)
	}
	return Outcome{
		Value:   median(ratios),
		Spread:  spread(ratios),
		Ours:    Figure{Value: median(ours), P99: micros(quantile(allOurs, 0.99))},
		Theirs:  Figure{Value: median(theirs), P99: micros(quantile(allTheirs, 0.99))},
		Unit:    unit,
		Samples: rounds,
	}
}

// Parts is the outcome of a part of something on either side, measured once a
// round: its value is our part.
func Parts[S any](samples []S, ours, theirs func(S) float64) Outcome {
	o := sizes(samples, ours, theirs, func(ours, _ float64) float64 { return ours })
	o.Unit = Part
	return o
}

// Rates is the outcome "our number per second / theirs" of something measured once
// a round.
func Rates[S any](samples []S, ours, theirs func(S) float64) Outcome {
	o := Sizes(samples, ours, theirs)
	o.Unit = PerSecond
	return o
}

// Waits is the outcome "our time / their time" of something measured once a round.
func Waits[S any](samples []S, ours, theirs func(S) time.Duration) Outcome {
	of := func(d func(S) time.Duration) func(S) float64 {
		return func(s S) float64 { return micros(d(s)) }
	}
	o := Sizes(samples, of(ours), of(theirs))
	o.Unit = Microseconds
	return o
}

// Sizes is the outcome "our bytes / their bytes" of something measured once a
// round.
func Sizes[S any](samples []S, ours, theirs func(S) float64) Outcome {
	return sizes(samples, ours, theirs, func(ours, theirs float64) float64 { return ours / theirs })
}

func sizes[S any](samples []S, ours, theirs func(S) float64, value func(ours, theirs float64) float64) Outcome {
	var values, a, b []float64
	for _, s := range samples {
		a, b = append(a, ours(s)), append(b, theirs(s))
		values = append(values, value(ours(s), theirs(s)))
	}
	return Outcome{
		Value:   median(values),
		Spread:  spread(values),
		Ours:    Figure{Value: median(a)},
		Theirs:  Figure{Value: median(b)},
		Unit:    Bytes,
		Samples: samples,
	}
}
