package locking

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestTally_tells_each_answer_once_until_there_are_enough(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		enough int   // answers
		before []int // answer before anybody waits
		told   []int // without an error, in order
		away   []int // told as an outage
	}{
		"all":                          {ctx: t.Context(), enough: 4, before: []int{2, 0, 1}, told: []int{2, 0, 1}},
		"a majority":                   {ctx: t.Context(), enough: 2, before: []int{1, 2, 0}, told: []int{1, 2}},
		"none in time":                 {ctx: ended, enough: 4, away: []int{0, 1, 2}},
		"one in time":                  {ctx: ended, enough: 4, before: []int{1}, told: []int{1}, away: []int{0, 2}},
		"enough with one that is away": {ctx: ended, enough: 2, before: []int{1}, told: []int{1}, away: []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told, away []int
			tally := newTally(3, func(i int, err error) bool {
				switch {
				case err == nil:
					told = append(told, i)
				case classOf(err) == rediserr.Unavailable:
					away = append(away, i)
				default:
					t.Errorf("%d is told %v", i, err)
				}
				return len(told)+len(away) >= test.enough
			})
			for _, i := range test.before {
				tally.count(i, nil)
			}
			tally.wait(test.ctx)
			for i := range 3 {
				tally.count(i, errors.New("too late")) // is not told
			}
			if !slices.Equal(told, test.told) || !slices.Equal(away, test.away) {
				t.Errorf("told %v, away %v; want %v, %v", told, away, test.told, test.away)
			}
		})
	}
}
