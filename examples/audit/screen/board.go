package screen

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// Note is the data of a progress event that the board understands.
type Note struct {
	Text string `json:"text"`
}

// row is what is known of one task.
type row struct {
	event   notifier.Event // the newest that counts
	order   int            // of first appearance
	touched int            // number of its newest event
	started time.Time      // of the first RUNNING
	note    string
}

// board is the state behind the screen, made of events only.
type board struct {
	workflow row
	rows     map[string]*row // by notifier.Event.TaskKey
	events   int
	gaps     int
	first    time.Time
	last     time.Time
}

func newBoard() *board { return &board{rows: map[string]*row{}} }

// apply takes an event in. It returns the row that the event is about, nil for
// a gap.
func (b *board) apply(ev notifier.Event) *row {
	b.events++
	if b.first.IsZero() || ev.Time.Before(b.first) {
		b.first = ev.Time
	}
	if ev.Time.After(b.last) {
		b.last = ev.Time
	}
	if ev.Kind == notifier.KindGap {
		b.gaps++
		return nil
	}
	r := b.row(ev)
	r.touched = b.events
	if ev.Kind == notifier.KindProgress {
		var note Note
		if json.Unmarshal(ev.Data, &note) == nil && note.Text != "" {
			r.note = note.Text
		}
		return r
	}
	if r.event.Status == "" || ev.Supersedes(r.event) {
		if ev.Attempt == 0 { // the workflow does not know it, the worker said it
			ev.Attempt = r.event.Attempt
		}
		r.event = ev
		if ev.Status == notifier.StatusRunning && r.started.IsZero() {
			r.started = ev.Time
		}
	}
	return r
}

func (b *board) row(ev notifier.Event) *row {
	if ev.OfWorkflow() {
		if b.workflow.event.WorkflowID == "" {
			b.workflow.event.WorkflowID = ev.WorkflowID
		}
		return &b.workflow
	}
	r, ok := b.rows[ev.TaskKey()]
	if !ok {
		r = &row{order: len(b.rows), event: notifier.Event{TaskID: ev.TaskID}}
		b.rows[ev.TaskKey()] = r
	}
	return r
}

// ended tells whether the workflow's last event has come.
func (b *board) ended() bool { return b.workflow.event.EndsWorkflow() }

// visible picks at most n rows: active ones before finished ones, newer before
// older; it returns them in their order of appearance, and what was left out
// as a count by status.
func (b *board) visible(n int) (rows []*row, hidden string) {
	for _, r := range b.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y *row) int {
		if d := cmp.Compare(rank(x), rank(y)); d != 0 {
			return d
		}
		return cmp.Compare(y.touched, x.touched)
	})
	if len(rows) > n {
		hidden = count(rows[n:])
		rows = rows[:n]
	}
	slices.SortFunc(rows, func(x, y *row) int { return cmp.Compare(x.order, y.order) })
	return rows, hidden
}

func rank(r *row) int {
	switch r.event.Status {
	case notifier.StatusRunning, notifier.StatusPaused:
		return 0
	case notifier.StatusFailed, notifier.StatusTimedOut:
		return 1 // a failure stays in sight
	case notifier.StatusWaiting:
		return 2
	case notifier.StatusPending:
		return 3
	default:
		return 4
	}
}

// count says how many rows there are of each status: "3 SUCCESS, 1 FAILED".
func count(rows []*row) string {
	by := map[notifier.Status]int{}
	for _, r := range rows {
		by[r.event.Status]++
	}
	var parts []string
	for status, n := range by {
		parts = append(parts, fmt.Sprintf("%d %s", n, status))
	}
	slices.Sort(parts)
	return fmt.Sprintf("and %d more: %s", len(rows), strings.Join(parts, ", "))
}

// took is how long a task that ended was running, "" before.
func (r *row) took() string {
	if r.started.IsZero() || !r.event.Status.Terminal() {
		return ""
	}
	return short(r.event.Time.Sub(r.started))
}

// short shows a duration in at most six places.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0ms"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// remark is what is worth saying beside a status.
func (r *row) remark() string {
	if r.event.Reason != "" {
		return r.event.Reason
	}
	return r.note
}
