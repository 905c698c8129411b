package screen

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/compozy/temporal-redis/notifier"
)

// of is the event of a run.
func of(run string, ev notifier.Event) notifier.Event {
	ev.RunID = run
	return ev
}

func last(ev notifier.Event) notifier.Event {
	ev.Final = true
	return ev
}

// shape is what the lines are about, without what follows.
func shape(lines []string) (shape []string) {
	for _, l := range lines[1 : len(lines)-1] {
		if f := strings.Fields(l); strings.Contains(l, "run ") {
			shape = append(shape, l)
		} else {
			shape = append(shape, f[0]+" "+f[1])
		}
	}
	return shape
}

// A snapshot comes in the order of the log, in which a late word on an earlier run may
// be behind the current one's.
func TestTableShowsRunsApart(t *testing.T) {
	t.Parallel()
	first := []notifier.Event{
		of("one", event(1, 1, "list", notifier.StatusSuccess)),
		of("one", last(event(2, 0, "", notifier.StatusFailed))),
	}
	second := []notifier.Event{
		of("two", event(3, 0, "", notifier.StatusRunning)),
		of("two", event(4, 1, "list", notifier.StatusRunning)),
	}
	late := of("one", event(5, 2, "totals", notifier.StatusSuccess))
	apart := []string{"earlier run one", "list SUCCESS", "w FAILED", "totals SUCCESS", "run two", "w RUNNING", "list RUNNING"}
	for name, test := range map[string]struct {
		height int
		events []notifier.Event
		want   []string
	}{
		"one run has no heading": {24, first, []string{"list SUCCESS", "w FAILED"}},
		"the current run is last": {
			24, slices.Concat(first, second, []notifier.Event{late}), apart,
		},
		"whatever comes first": {
			24, slices.Concat(second, first, []notifier.Event{late}), apart,
		},
		"rows of the current run stay when there is no room": {
			5, slices.Concat(first, second, []notifier.Event{late}), []string{"run two", "w RUNNING", "list RUNNING"},
		},
		"a heading takes its line": {
			6, slices.Concat(first, second), []string{"run two", "w RUNNING", "list RUNNING"},
		},
		"and stands where there is room for a row": {
			7, slices.Concat(first, second), []string{"earlier run one", "w FAILED", "run two", "w RUNNING", "list RUNNING"},
		},
		"one row is shown in any case": {3, slices.Concat(first, second), []string{"list RUNNING"}},
		"what names no run stands above": {
			24, append([]notifier.Event{of("", event(9, 7, "plain", notifier.StatusRunning))}, slices.Concat(first, second)...),
			[]string{"plain RUNNING", "earlier run one", "list SUCCESS", "w FAILED", "run two", "w RUNNING", "list RUNNING"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := drawn(test.height, test.events...)
			if got := shape(lines); !slices.Equal(got, test.want) {
				t.Errorf("it shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if len(lines) > test.height {
				t.Errorf("%d lines in %d rows", len(lines), test.height)
			}
		})
	}
}

func TestTableCountsRowsNotHeadings(t *testing.T) {
	t.Parallel()
	lines := drawn(7,
		of("one", event(1, 1, "a", notifier.StatusSuccess)), of("one", event(2, 2, "b", notifier.StatusSuccess)),
		of("two", event(3, 1, "a", notifier.StatusRunning)), of("two", event(4, 2, "b", notifier.StatusRunning)))
	if got, want := lines[len(lines)-1], "4 tasks, 4 events, 0 gaps, 1 rows not shown"; got != want {
		t.Errorf("it says %q; want %q", got, want)
	}
}

func TestLinesShowRunsApart(t *testing.T) {
	t.Parallel()
	one := of("one", event(0, 1, "a", notifier.StatusSuccess))
	oneEnds := of("one", last(event(1, 0, "", notifier.StatusSuccess)))
	two := of("two\x1b", event(2, 0, "", notifier.StatusRunning))
	gap := notifier.Event{Kind: notifier.KindGap, WorkflowID: "w", Time: epoch}
	for name, test := range map[string]struct {
		bursts [][]notifier.Event
		want   []string
	}{
		"one run": {[][]notifier.Event{{one, oneEnds}}, []string{"SUCCESS   a", "SUCCESS   workflow w  (final)"}},
		"two that are there": {
			[][]notifier.Event{{one, oneEnds, two}},
			[]string{"--        earlier run one", "SUCCESS   a", "SUCCESS   workflow w  (final)", "--        run two?", "RUNNING   workflow w"},
		},
		"one after the other, and what comes late": {
			[][]notifier.Event{{one}, {two}, {gap}, {two}, {oneEnds}, {two}},
			[]string{
				"SUCCESS   a", "--        run two?", "RUNNING   workflow w", "GAP       some events were lost", "RUNNING   workflow w",
				"--        earlier run one", "SUCCESS   workflow w  (final)", "--        run two?", "RUNNING   workflow w",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			s := New(&out)
			for _, burst := range test.bursts {
				if err := s.Draw(burst...); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
				got = append(got, rest)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// Among many workflows a name says of which run it is.
func TestManyWorkflowsNameTheRun(t *testing.T) {
	t.Parallel()
	const one, two = "01990000-0000-7000-8000-00000000aaaa", "01990000-0000-7000-8000-00000000bbbb"
	events := []notifier.Event{
		of(one, last(event(0, 0, "", notifier.StatusFailed))),
		of(two, event(1, 1, "a", notifier.StatusRunning)),
	}
	other := of("r", event(2, 1, "a", notifier.StatusRunning))
	other.WorkflowID = "x"
	var out bytes.Buffer
	s := NewMany(&out)
	if err := s.Draw(append(events, other)...); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" workflow w@0000aaaa ", " w@0000bbbb/a", " x/a"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
	if got, want := shape(s.table(24)), []string{"w@0000aaaa FAILED", "w@0000bbbb/a RUNNING", "x/a RUNNING"}; !slices.Equal(got, want) {
		t.Errorf("it shows %q; want %q", got, want)
	}
}
