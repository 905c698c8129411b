package screen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// event makes the n-th event: it happened n milliseconds after the first.
func event(n int, call int64, task string, status notifier.Status) notifier.Event {
	attempt := int32(1)
	if status == notifier.StatusPending || task == "" {
		attempt = 0
	}
	return notifier.Event{
		Kind: notifier.KindStatus, WorkflowID: "w", RunID: "r", TaskID: task, Call: call, Attempt: attempt,
		Status: status, Time: epoch.Add(time.Duration(n) * time.Millisecond), ID: int64(n) + 1,
	}
}

func note(n int, call int64, task, text string) notifier.Event {
	ev := event(n, call, task, "")
	ev.Kind = notifier.KindProgress
	ev.Data, _ = json.Marshal(Note{Text: text})
	return ev
}

func drawn(width, height int, events ...notifier.Event) []string {
	b := newBoard()
	for _, ev := range events {
		b.apply(ev)
	}
	var out []string
	for _, l := range b.table(width, height) {
		out = append(out, strings.TrimRight(l.text, " "))
	}
	return out
}

func TestTableShowsWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	failed := event(300, 3, "totals", notifier.StatusFailed)
	failed.Reason = "no such tree"
	got := drawn(79, 24,
		event(0, 0, "", notifier.StatusPending),
		event(1, 0, "", notifier.StatusRunning),
		event(2, 1, "list", notifier.StatusPending),
		event(10, 1, "list", notifier.StatusRunning),
		note(11, 1, "list", "45 packages"),
		event(22, 1, "list", notifier.StatusSuccess),
		event(30, 2, "inspect.1", notifier.StatusWaiting),
		event(40, 3, "totals", notifier.StatusRunning),
		failed,
	)
	want := []string{
		"w  RUNNING  3 tasks, 9 events  300ms",
		"TASK                   STATUS    TRY   TIME NOTE",
		"list                   SUCCESS     1   12ms 45 packages",
		"inspect.1              WAITING     1",
		"totals                 FAILED      1  260ms no such tree",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTableKnowsNothingThatNoEventSaid(t *testing.T) {
	t.Parallel()
	if got := drawn(79, 24); got[0] != "...  ...  0 tasks, 0 events" || len(got) != 2 {
		t.Errorf("a table without events is %q", got)
	}
}

func TestTableIgnoresWhatComesLate(t *testing.T) {
	t.Parallel()
	got := drawn(79, 24,
		event(5, 1, "a", notifier.StatusSuccess),
		event(1, 1, "a", notifier.StatusPending),
		event(2, 1, "a", notifier.StatusRunning),
	)
	if !strings.Contains(got[2], "SUCCESS") {
		t.Errorf("a late event won: %q", got[2])
	}
}

func TestTableFitsItsTerminal(t *testing.T) {
	t.Parallel()
	var events []notifier.Event
	for i := range 200 {
		task := fmt.Sprintf("a-task-with-quite-a-long-id-%s.%d", strings.Repeat("x", i%60), i)
		events = append(events, event(i, int64(i+1), task, notifier.StatusRunning))
		long := note(i, int64(i+1), task, strings.Repeat("zwölf 漢字 \x1b[2J\n", 20))
		events = append(events, long)
		if i < 150 {
			events = append(events, event(i, int64(i+1), task, notifier.StatusSuccess))
		}
	}
	for _, size := range [][2]int{{79, 24}, {119, 40}, {200, 10}, {40, 12}, {20, 5}, {1, 3}, {79, 300}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			b := newBoard()
			for _, ev := range events {
				b.apply(ev)
			}
			lines := b.table(size[0], size[1])
			if len(lines) > max(size[1], 4) {
				t.Errorf("%d lines in %d rows", len(lines), size[1])
			}
			for _, l := range lines {
				if n := places(l.text); n > size[0] {
					t.Errorf("%d places in %d columns: %q", n, size[0], l.text)
				}
				if strings.ContainsAny(l.text, "\x1b\n\r\t") {
					t.Errorf("control characters reach the terminal: %q", l.text)
				}
			}
		})
	}
}

func TestTablePrefersActiveAndNewRows(t *testing.T) {
	t.Parallel()
	var events []notifier.Event
	for i := range 30 {
		events = append(events, event(i, int64(i+1), fmt.Sprintf("t%02d", i), notifier.StatusRunning))
		if i != 3 {
			events = append(events, event(i, int64(i+1), fmt.Sprintf("t%02d", i), notifier.StatusSuccess))
		}
	}
	got := drawn(79, 8, events...)
	var ids []string
	for _, l := range got[2:7] {
		ids = append(ids, l[:3])
	}
	if strings.Join(ids, " ") != "t03 t26 t27 t28 t29" {
		t.Errorf("rows %q", ids)
	}
	if got[7] != "and 25 more: 25 SUCCESS" {
		t.Errorf("last line %q", got[7])
	}
}

func TestLongIDsKeepTheirEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 10, "short"},
		{"inspect-the-packages.117", 16, "inspect..ges.117"},
		{"漢字漢字漢字漢字", 9, "漢..漢字"},
		{"abcdefgh", 4, "ab.."},
		{"abcdefgh", 1, "a"},
	} {
		if got := shorten(c.in, c.width); got != c.want || places(got) > c.width {
			t.Errorf("shorten(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := New(&out, Options{})
	last := event(3, 0, "", notifier.StatusSuccess)
	last.Final = true
	err := s.Draw(event(0, 1, "list", notifier.StatusRunning), note(1, 1, "list", "go\x1b[31m"), notifier.Event{Kind: notifier.KindGap, Time: epoch}, last)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		got = append(got, rest)
	}
	want := []string{"RUNNING   list", "-         list  go?[31m", "GAP       some events were lost", "SUCCESS   workflow w  (final)"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestScreenRedrawsInPlace(t *testing.T) {
	t.Parallel()
	width := 80
	var out bytes.Buffer
	s := New(&out, Options{Size: func() (int, int) { return width, 24 }, Color: true})
	draw := func(ev notifier.Event) string {
		out.Reset()
		if err := s.Draw(ev); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if first := draw(event(0, 1, "a", notifier.StatusRunning)); strings.HasPrefix(first, "\x1b") || !strings.Contains(first, "\x1b[36mRUNNING\x1b[0m") {
		t.Errorf("first drawing %q", first)
	}
	if second := draw(event(1, 1, "a", notifier.StatusSuccess)); !strings.HasPrefix(second, "\x1b[3A\r") || !strings.HasSuffix(second, "\x1b[J") {
		t.Errorf("second drawing %q", second)
	}
	draw(note(2, 1, "a", strings.Repeat("n", 100)))
	width = 40 // the last row, 79 places, now takes two lines
	if third := draw(event(3, 2, "b", notifier.StatusRunning)); !strings.HasPrefix(third, "\x1b[5A\r") {
		t.Errorf("drawing in a narrower terminal %q", third[:10])
	}
}

func TestRunEndsWithTheWorkflow(t *testing.T) {
	t.Parallel()
	events := make(chan notifier.Event, 8)
	end := event(2, 0, "", notifier.StatusSuccess)
	end.Final = true
	taskEnd := event(1, 1, "a", notifier.StatusSuccess)
	taskEnd.Final = true
	events <- event(0, 1, "a", notifier.StatusRunning)
	events <- taskEnd
	events <- end
	s := New(&bytes.Buffer{}, Options{Now: func() time.Time { return epoch.Add(5 * time.Millisecond) }})
	ended, err := s.Run(t.Context(), events)
	if !ended || err != nil || s.Events() != 3 || s.Tasks() != 1 {
		t.Errorf("Run = %v, %v with %d events, %d tasks", ended, err, s.Events(), s.Tasks())
	}
	if late := s.Latencies(); len(late) != 3 || late[0] != 5*time.Millisecond || late[2] != 3*time.Millisecond {
		t.Errorf("latencies %v", late)
	}
}

func TestRunEndsWithoutTheWorkflow(t *testing.T) {
	t.Parallel()
	closed := make(chan notifier.Event)
	close(closed)
	if ended, err := New(&bytes.Buffer{}, Options{}).Run(t.Context(), closed); ended || err != nil {
		t.Errorf("on a closed channel Run = %v, %v", ended, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ended, err := New(&bytes.Buffer{}, Options{}).Run(ctx, make(chan notifier.Event)); ended || err != nil {
		t.Errorf("in an ended context Run = %v, %v", ended, err)
	}
	one := make(chan notifier.Event, 1)
	one <- event(0, 1, "a", notifier.StatusRunning)
	if _, err := New(broken{}, Options{}).Run(t.Context(), one); !errors.Is(err, errBroken) {
		t.Errorf("on a broken output Run = %v", err)
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
