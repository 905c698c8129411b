package worker

import (
	"testing"
	"time"
)

func TestAbsences_add_up_what_came_since(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var a absences
	for _, n := range []struct {
		at   int
		away bool
	}{{0, false}, {10, true}, {12, true}, {20, false}, {25, false}, {30, true}} {
		a.note(at(n.at), n.away)
	}
	for name, test := range map[string]struct{ then, now, want int }{
		"all":              {0, 35, 15},
		"from the middle":  {15, 35, 10},
		"the present one":  {20, 35, 5},
		"a part of it":     {32, 35, 3},
		"nothing from now": {35, 35, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := a.since(at(test.then), at(test.now)); got != time.Duration(test.want)*time.Second {
				t.Errorf("got %v; want %d s", got, test.want)
			}
		})
	}
}

func TestAbsences_remember_the_last_ones(t *testing.T) {
	t.Parallel()
	var a absences
	for i := range 10 * maxAbsences {
		a.note(time.Unix(int64(i), 0), i%2 == 0)
	}
	if got := a.since(time.Unix(0, 0), time.Unix(10*maxAbsences, 0)); got != maxAbsences*time.Second || len(a.past) != maxAbsences {
		t.Errorf("%d are remembered, of %v", len(a.past), got)
	}
}
