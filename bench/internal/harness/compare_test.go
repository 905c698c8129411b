package harness

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// record makes both sides write their letter into one log.
func record(log *strings.Builder) (ours, theirs Op) {
	op := func(letter byte) Op {
		return func(context.Context, int) error { return log.WriteByte(letter) }
	}
	return op('A'), op('B')
}

func lab(rounds int) *Lab { return &Lab{settings: Settings{Rounds: rounds}, key: "row"} }

func TestTurnsAlternateABBA(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	ours, theirs := record(&log)
	rounds, err := lab(2).Plan(Plan{Turn: 2, Pairs: 3}).Compare(t.Context(), ours, theirs)
	if err != nil {
		t.Fatal(err)
	}
	// Warm-up, then two rounds; a round starts with the other side than the one
	// before it started with.
	want := "AABBBBAAAABB" + "BBAAAABBBBAA" + "AABBBBAAAABB"
	if log.String() != want {
		t.Errorf("turns were\n%s, want\n%s", log.String(), want)
	}
	if len(rounds) != 2 {
		t.Errorf("%d rounds, want 2: the warm-up does not count", len(rounds))
	}
	for i, r := range rounds {
		if len(r.Ours.Samples) != 6 || len(r.Theirs.Samples) != 6 || r.Ours.Operations != 6 || r.Ours.Elapsed <= 0 {
			t.Errorf("round %d: %+v", i, r)
		}
	}
}

func TestOperationsAreNumberedOnceEach(t *testing.T) {
	t.Parallel()
	for _, callers := range []int{1, 8} {
		plan := lab(3).Plan(Plan{Callers: callers, Turn: 20, Pairs: 2, Batch: 3})
		var mu sync.Mutex
		var seen []int
		op := func(_ context.Context, n int) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, n)
			return nil
		}
		nothing := func(context.Context, int) error { return nil }
		if _, err := plan.Compare(t.Context(), op, nothing); err != nil {
			t.Fatal(err)
		}
		slices.Sort(seen)
		if want := plan.Operations(); len(seen) != want || seen[0] != 0 || seen[len(seen)-1] != want-1 || len(slices.Compact(seen)) != want {
			t.Errorf("%d callers: %d operations from %d to %d, want 0 to %d once each", callers, len(seen), seen[0], seen[len(seen)-1], want-1)
		}
	}
}

func TestAllCallersRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	const callers = 4
	var inside atomic.Int64
	all := make(chan struct{})
	meet := func(_ context.Context, n int) error {
		if n >= callers {
			return nil
		}
		if inside.Add(1) == callers {
			close(all)
		}
		select { // in the first turn nobody gets on alone
		case <-all:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("the others did not come")
		}
	}
	nothing := func(context.Context, int) error { return nil }
	if _, err := lab(1).Plan(Plan{Callers: callers, Turn: callers, Pairs: 1}).Compare(t.Context(), meet, nothing); err != nil {
		t.Fatal(err)
	}
}

func TestTheFasterSideMayRunMoreInATurn(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	ours, theirs := record(&log)
	rounds, err := lab(1).Plan(Plan{Turn: 1, Pairs: 1, OursBatch: 5}).Compare(t.Context(), ours, theirs)
	if err != nil {
		t.Fatal(err)
	}
	if want := "AAAAAB" + "BAAAAA"; log.String() != want {
		t.Errorf("turns were %s, want %s", log.String(), want)
	}
	if r := rounds[0]; r.Ours.Operations != 5 || r.Theirs.Operations != 1 || len(r.Ours.Samples) != 1 {
		t.Errorf("round: %+v", r)
	}
}

func TestAFailedOperationEndsTheComparison(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, callers := range []int{1, 4} {
		calls := 0
		var mu sync.Mutex
		op := func(_ context.Context, n int) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			if n == 5 {
				return broken
			}
			return nil
		}
		nothing := func(context.Context, int) error { return nil }
		_, err := lab(7).Plan(Plan{Callers: callers, Turn: 100, Pairs: 2}).Compare(t.Context(), op, nothing)
		if !errors.Is(err, broken) {
			t.Errorf("%d callers: got %v", callers, err)
		}
		if calls > 100 {
			t.Errorf("%d callers: %d operations after a failure", callers, calls)
		}
	}
}

func TestCancellingEndsTheComparison(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	op := func(context.Context, int) error { cancel(); return nil }
	if _, err := lab(7).Plan(Plan{Turn: 1, Pairs: 1}).Compare(ctx, op, op); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAQuickPlanIsSmall(t *testing.T) {
	t.Parallel()
	quick := &Lab{settings: Settings{Rounds: 11, Quick: true}}
	p := quick.Plan(Plan{Callers: 64, Turn: 640, Pairs: 30, Batch: 200, OursBatch: 2000})
	if p.Operations() > 1000 || p.Turn < p.Callers || p.OursBatch > 2 {
		t.Errorf("quick plan: %+v, %d operations", p, p.Operations())
	}
}

func TestRandomNumbersAreTheSameForTheSameSeedAndRow(t *testing.T) {
	t.Parallel()
	first := func(seed uint64, key string) uint64 {
		return (&Lab{settings: Settings{Seed: seed}, key: key}).Rand().Uint64()
	}
	if again := first(1, "a"); again != first(1, "a") {
		t.Error("one seed gave two numbers")
	}
	if first(1, "a") == first(2, "a") || first(1, "a") == first(1, "b") {
		t.Error("another seed or row gave the same number")
	}
}
