package screen

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestAway_is_told_once(t *testing.T) {
	t.Parallel()
	refused, late := errors.New("connection\nrefused \x1b[2J"), errors.New("it took too long")
	redis := func(connected bool) func(*Away) string { return func(a *Away) string { return a.Redis(connected) } }
	temporal := func(failure error) func(*Away) string { return func(a *Away) string { return a.Temporal(failure) } }
	for name, test := range map[string]struct {
		reports []func(*Away) string
		want    []string
		footer  string
	}{
		"nobody": {[]func(*Away) string{redis(true), temporal(nil)}, nil, ""},
		"Redis": {
			[]func(*Away) string{redis(false), redis(false)},
			[]string{"the connection to Redis is lost; trying again"}, "; the connection to Redis is lost",
		},
		"Redis, for a while": {
			[]func(*Away) string{redis(false), redis(true), redis(true)},
			[]string{"the connection to Redis is lost; trying again", "Redis is back"}, "",
		},
		"Temporal, for one reason and another": {
			[]func(*Away) string{temporal(refused), temporal(late)},
			[]string{"Temporal does not answer; trying again (connection refused ?[2J)"}, "; Temporal does not answer (it took too long)",
		},
		"both, and Temporal is back": {
			[]func(*Away) string{redis(false), temporal(late), redis(false), temporal(nil), temporal(nil)},
			[]string{"the connection to Redis is lost; trying again", "Temporal does not answer; trying again (it took too long)", "Temporal answers again"},
			"; the connection to Redis is lost",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var away Away
			var got []string
			for _, report := range test.reports {
				if news := report(&away); news != "" {
					got = append(got, news)
				}
			}
			if !slices.Equal(got, test.want) || away.footer() != test.footer {
				t.Errorf("it tells %q and below a table %q; want %q and %q", got, away.footer(), test.want, test.footer)
			}
		})
	}
}

func TestScreenTellsWhoIsAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		height     func() int
		away, back string // the end of what it says
	}{
		"lines": {nil, "Temporal does not answer; trying again (refused)\n", "Temporal answers again\n"},
		"table": {
			func() int { return 24 }, "; the connection to Redis is lost; Temporal does not answer (refused)\n" + eraseBelow + wrapOn,
			"0 rows not shown\n" + eraseBelow + wrapOn,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			s := New(&out)
			s.height = test.height
			for range 3 {
				if err := errors.Join(s.Connection(false), s.Source(errors.New("refused"))); err != nil {
					t.Fatal(err)
				}
			}
			if text := out.String(); strings.Count(text, "Temporal does not answer") != 1 || !strings.HasSuffix(text, test.away) {
				t.Errorf("it says %q", text)
			}
			if err := errors.Join(s.Connection(true), s.Source(nil)); err != nil {
				t.Fatal(err)
			}
			if text := out.String(); !strings.HasSuffix(text, test.back) {
				t.Errorf("when all are back it says %q", text)
			}
		})
	}
}
