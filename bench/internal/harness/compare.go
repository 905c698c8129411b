package harness

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Op is one operation of a side. n counts this side's operations from 0 over
// warm-up and all rounds and never repeats; with several callers an Op is called
// from several goroutines.
type Op func(ctx context.Context, n int) error

// Timed is an operation that says itself what it took: of what begins or ends
// somewhere in the middle of it.
type Timed func(ctx context.Context, n int) (time.Duration, error)

// Plan says how a comparison is divided. Lab.Plan completes it.
type Plan struct {
	// Callers is how many goroutines run operations at the same time. Defaults
	// to 1.
	Callers int
	// Turn is the number of samples of one side before the other side's turn.
	Turn int
	// Pairs is the number of turns per side and round.
	Pairs int
	// Batch is the number of operations that are timed together as one sample,
	// for those that take less than reading the clock. Defaults to 1.
	Batch int
	// OursBatch is Batch for our side, where it is so much faster that its turns
	// would else be too short to be told from what the other side left behind
	// (cold caches, a running collection). Defaults to Batch.
	OursBatch int

	rounds int
}

// Operations is the number of operations that each side runs in all: what n
// stays below. Our side runs more with an OursBatch.
func (p Plan) Operations() int { return (p.rounds + 1) * p.PerRound() }

// PerRound is the number of operations that each side runs in a round.
func (p Plan) PerRound() int { return p.Pairs * p.Turn * p.Batch }

// Round holds the samples of one round.
type Round struct {
	Ours   Side `json:"ours"`
	Theirs Side `json:"theirs"`
}

// Side is what one side did in one round.
type Side struct {
	// Samples are durations of one operation (the mean, in a batch).
	Samples []time.Duration `json:"samples_ns"`
	// Operations took Elapsed together, by the wall clock.
	Operations int           `json:"operations"`
	Elapsed    time.Duration `json:"elapsed_ns"`
}

func (s Side) perSecond() float64 { return float64(s.Operations) / s.Elapsed.Seconds() }

// Compare runs both sides: one round to warm up, whose samples are dropped,
// then the plan's rounds. An operation that fails ends it.
func (p Plan) Compare(ctx context.Context, ours, theirs Op) ([]Round, error) {
	a, b := &runner{plan: p, op: ours}, &runner{plan: p, op: theirs}
	a.plan.Batch = p.OursBatch
	return p.compare(ctx, a, b)
}

// CompareTimed is Compare with operations that time themselves, one at a time.
func (p Plan) CompareTimed(ctx context.Context, ours, theirs Timed) ([]Round, error) {
	p.Callers, p.Batch = 1, 1
	return p.compare(ctx, &runner{plan: p, timed: ours}, &runner{plan: p, timed: theirs})
}

func (p Plan) compare(ctx context.Context, a, b *runner) ([]Round, error) {
	var rounds []Round
	for i := range p.rounds + 1 {
		runtime.GC()
		a.side, b.side = Side{}, Side{}
		for pair := range p.Pairs {
			first, second := a, b
			if (i+pair)%2 == 1 {
				first, second = b, a
			}
			if err := first.turn(ctx); err != nil {
				return nil, err
			}
			if err := second.turn(ctx); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			rounds = append(rounds, Round{Ours: a.side, Theirs: b.side})
		}
	}
	return rounds, nil
}

// runner runs the turns of one side.
type runner struct {
	plan Plan
	op   Op
	// timed stands in for op if it is set.
	timed Timed
	next  int // n of the next operation
	side  Side
}

func (r *runner) turn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	samples := make([]time.Duration, r.plan.Turn)
	start := time.Now()
	var err error
	if r.plan.Callers == 1 {
		err = r.serial(ctx, samples)
	} else {
		err = r.parallel(ctx, samples)
	}
	r.side.Elapsed += time.Since(start)
	if err != nil {
		return err
	}
	r.side.Samples = append(r.side.Samples, samples...)
	r.side.Operations += r.plan.Turn * r.plan.Batch
	r.next += r.plan.Turn * r.plan.Batch
	return nil
}

func (r *runner) serial(ctx context.Context, samples []time.Duration) error {
	for i := range samples {
		if err := r.sample(ctx, samples, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) parallel(ctx context.Context, samples []time.Duration) error {
	var taken atomic.Int64
	var first error
	var once sync.Once
	var callers sync.WaitGroup
	for range r.plan.Callers {
		callers.Go(func() {
			for {
				i := int(taken.Add(1)) - 1
				if i >= len(samples) {
					return
				}
				if err := r.sample(ctx, samples, i); err != nil {
					once.Do(func() { first = err })
					taken.Store(int64(len(samples)))
					return
				}
			}
		})
	}
	callers.Wait()
	return first
}

// sample runs and times the operations of samples[i].
func (r *runner) sample(ctx context.Context, samples []time.Duration, i int) error {
	n := r.next + i*r.plan.Batch
	if r.timed != nil {
		took, err := r.timed(ctx, n)
		if err != nil {
			return fmt.Errorf("operation %d: %w", n, err)
		}
		samples[i] = took
		return nil
	}
	start := time.Now()
	for k := range r.plan.Batch {
		if err := r.op(ctx, n+k); err != nil {
			return fmt.Errorf("operation %d: %w", n+k, err)
		}
	}
	samples[i] = time.Since(start) / time.Duration(r.plan.Batch)
	return nil
}
