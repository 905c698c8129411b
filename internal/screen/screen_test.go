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

func drawn(height int, events ...notifier.Event) []string {
	s := New(&bytes.Buffer{})
	for _, ev := range events {
		s.board.apply(ev)
	}
	return s.table(height)
}

func TestTableShowsWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	failed := event(300, 3, "totals", notifier.StatusFailed)
	failed.Reason = "no such tree"
	got := drawn(24,
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
		"TASK                             STATUS    TRY     TIME NOTE",
		"w                                RUNNING",
		"list                             SUCCESS     1     12ms 45 packages",
		"inspect.1                        WAITING     1",
		"totals                           FAILED      1    260ms no such tree",
		"3 tasks, 9 events, 0 gaps, 0 rows not shown",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTableKnowsNothingThatNoEventSaid(t *testing.T) {
	t.Parallel()
	if got := drawn(24); len(got) != 2 || got[1] != "0 tasks, 0 events, 0 gaps, 0 rows not shown" {
		t.Errorf("a table without events is %q", got)
	}
}

func TestTableIgnoresWhatComesLate(t *testing.T) {
	t.Parallel()
	got := drawn(24,
		event(5, 1, "a", notifier.StatusSuccess),
		event(1, 1, "a", notifier.StatusPending),
		event(2, 1, "a", notifier.StatusRunning),
	)
	if !strings.Contains(got[1], "SUCCESS") {
		t.Errorf("a late event won: %q", got[2])
	}
}

func TestTableFitsItsTerminal(t *testing.T) {
	t.Parallel()
	var events []notifier.Event
	for i := range 200 {
		task := fmt.Sprintf("a-task-with-quite-a-long-id-%s.%d", strings.Repeat("x", i%60), i)
		events = append(events, event(i, int64(i+1), task, notifier.StatusRunning), note(i, int64(i+1), task, "zwölf \x1b[2J\n"))
	}
	for _, height := range []int{3, 5, 24, 300} {
		lines := drawn(height, events...)
		if len(lines) > height {
			t.Errorf("%d lines in %d rows", len(lines), height)
		}
		if strings.ContainsAny(strings.Join(lines, ""), "\x1b\n\r\t") {
			t.Errorf("control characters reach the terminal: %q", lines)
		}
		if last := lines[len(lines)-2]; !strings.HasPrefix(last, "..") || !strings.Contains(last, ".199 ") {
			t.Errorf("a long id has lost its end: %q", last)
		}
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
	got := drawn(8, events...)
	var ids []string
	for _, l := range got[1:7] {
		ids = append(ids, l[:3])
	}
	if strings.Join(ids, " ") != "t03 t25 t26 t27 t28 t29" {
		t.Errorf("rows %q", ids)
	}
	if got[7] != "30 tasks, 59 events, 0 gaps, 24 rows not shown" {
		t.Errorf("last line %q", got[7])
	}
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := New(&out)
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
	var out bytes.Buffer
	s := New(&out)
	s.height, s.color = func() int { return 24 }, true
	draw := func(ev notifier.Event) string {
		out.Reset()
		if err := s.Draw(ev); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if first := draw(event(0, 1, "a", notifier.StatusRunning)); !strings.HasPrefix(first, wrapOff+eraseLine+"TASK") || !strings.Contains(first, "\x1b[36mRUNNING\x1b[0m") {
		t.Errorf("first drawing %q", first)
	}
	if second := draw(event(1, 1, "a", notifier.StatusSuccess)); !strings.HasPrefix(second, wrapOff+"\r\x1b[3A") || !strings.HasSuffix(second, eraseBelow+wrapOn) {
		t.Errorf("second drawing %q", second)
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
	s := New(&bytes.Buffer{})
	if err := s.Run(t.Context(), events, nil); err != nil || s.Events() != 3 || s.Tasks() != 1 {
		t.Errorf("Run = %v with %d events, %d tasks", err, s.Events(), s.Tasks())
	}
	if late := s.Latencies(); len(late) != 3 || late[0]-late[2] != 2*time.Millisecond {
		t.Errorf("latencies %v", late)
	}
}

func TestRunEndsWithoutTheWorkflow(t *testing.T) {
	t.Parallel()
	closed := make(chan notifier.Event)
	close(closed)
	if err := New(&bytes.Buffer{}).Run(t.Context(), closed, nil); !errors.Is(err, errNoEnd) {
		t.Errorf("on a closed channel Run = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(&bytes.Buffer{}).Run(ctx, make(chan notifier.Event), nil); !errors.Is(err, errNoEnd) {
		t.Errorf("in an ended context Run = %v", err)
	}
	one := make(chan notifier.Event, 1)
	one <- event(0, 1, "a", notifier.StatusRunning)
	if err := New(broken{}).Run(t.Context(), one, nil); !errors.Is(err, errBroken) {
		t.Errorf("on a broken output Run = %v", err)
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
