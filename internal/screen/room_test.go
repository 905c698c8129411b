package screen

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// Who watches all workflows for long keeps what goes on, and counts the rest.
func TestBoardHasRoomForSoMuch(t *testing.T) {
	t.Parallel()
	s := NewMany(&bytes.Buffer{})
	take := func(workflow int, task string, status notifier.Status) {
		ev := event(workflow, int64(len(task)), task, status)
		ev.WorkflowID, ev.RunID = fmt.Sprint("w", workflow), fmt.Sprint("r", workflow)
		s.board.apply(ev)
	}
	take(0, "endless", notifier.StatusRunning)
	const workflows = 2 * maxRows
	for w := range workflows {
		take(w, "", notifier.StatusRunning)
		take(w, "task", notifier.StatusRunning)
		take(w, "task", notifier.StatusSuccess)
		take(w, "", notifier.StatusSuccess)
		if len(s.board.rows) > maxRows || len(s.board.runs) > maxRows {
			t.Fatalf("after %d workflows it keeps %d rows and %d runs", w+1, len(s.board.rows), len(s.board.runs))
		}
	}
	lines := s.table(8)
	if got := lines[1]; got[:10] != "w0/endless" {
		t.Errorf("what goes on is not shown, but %q", got)
	}
	if got, want := lines[len(lines)-1], fmt.Sprintf("%d tasks, %d events, 0 gaps, %d rows not shown", workflows+1, 4*workflows+1, 2*workflows+1-6); got != want {
		t.Errorf("it counts %q; want %q", got, want)
	}
	take(1, "task", notifier.StatusSuccess) // an event of what was forgotten
	if got := s.table(8); got[len(got)-2][:7] != "w1/task" {
		t.Errorf("an event of what was forgotten shows %q", got)
	}
}

func TestScreenKeepsTheNewestLatencies(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := New(&out)
	burst := make([]notifier.Event, 1000)
	for i := range burst {
		burst[i] = event(i, 1, "a", notifier.StatusRunning)
	}
	const bursts = 3 * maxLate / 1000
	for n := range bursts {
		out.Reset()
		if n == bursts-1 {
			for i := range burst {
				burst[i].Time = time.Now().Add(time.Hour) // all others are of weeks ago
			}
		}
		if err := s.Draw(burst...); err != nil {
			t.Fatal(err)
		}
	}
	late := s.Latencies()
	if n := len(late); n < maxLate || n > 2*maxLate || late[n-len(burst)] > 0 || late[0] < time.Hour {
		t.Errorf("it keeps %d, from %v to %v", n, late[0], late[n-1])
	}
}
