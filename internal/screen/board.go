package screen

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// Note is the data of a progress event that the board understands: a text, or what
// activities.Done says.
type Note struct {
	Text    string `json:"text,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Message string `json:"message,omitempty"`
}

func (n Note) String() string {
	text := cmp.Or(n.Text, n.Message)
	switch {
	case n.Total > 0:
		return strings.TrimSpace(fmt.Sprintf("%d/%d %s", n.Done, n.Total, text))
	case n.Done > 0:
		return strings.TrimSpace(fmt.Sprintf("%d %s", n.Done, text))
	}
	return text
}

// row is what is known of one task.
type row struct {
	event   notifier.Event // the newest that counts
	order   int            // of first appearance
	touched int            // number of its newest event
	started time.Time      // of the first RUNNING
	note    string
	run     *run
}

// board is the state behind the screen, made of events only.
type board struct {
	rows         map[string]*row  // by notifier.Event.TaskKey
	runs         map[string]*runs // by workflow id
	workflow     notifier.Event
	events, gaps int
	many         bool // workflows
	forgotten    forgotten
}

// apply takes an event in. It returns the row that the event is about, nil for
// a gap.
func (b *board) apply(ev notifier.Event) *row {
	b.events++
	if ev.Kind == notifier.KindGap {
		b.gaps++
		return nil
	}
	key := ev.WorkflowID + " " + ev.TaskKey()
	r, ok := b.rows[key]
	if !ok {
		b.makeRoom()
		r = &row{order: b.events, event: ev, run: b.meet(ev)}
		b.rows[key] = r
	}
	r.touched = b.events
	b.meet(ev)
	switch {
	case ev.Kind == notifier.KindProgress:
		var note Note
		_ = json.Unmarshal(ev.Data, &note) // another's data is no note
		r.note = cmp.Or(note.String(), r.note)
	case ev.Supersedes(r.event):
		ev.Attempt = cmp.Or(ev.Attempt, r.event.Attempt) // the workflow does not know it, the worker said it
		r.event = ev
	}
	if ev.Status == notifier.StatusRunning && r.started.IsZero() {
		r.started = ev.Time
	}
	if ev.OfWorkflow() {
		b.workflow = r.event
	}
	return r
}

// tasks is how many rows are, or were, not the workflow's own.
func (b *board) tasks() (n int) {
	n = b.forgotten.tasks
	for _, r := range b.rows {
		if !r.event.OfWorkflow() {
			n++
		}
	}
	return n
}

// visible picks the rows that fit in so many lines, but not less than one: those of the
// current run before those of earlier ones, those that go on before those that ended,
// newer before older. It returns them as they are shown: the current run last, and in
// their order of appearance.
func (b *board) visible(lines int) []*row {
	rows := slices.SortedFunc(maps.Values(b.rows), func(x, y *row) int {
		return cmp.Or(cmp.Compare(b.rank(x), b.rank(y)), cmp.Compare(y.touched, x.touched))
	})
	headed := make(map[*run]bool)
	for i, r := range rows {
		lines--
		if b.headed(r) && !headed[r.run] {
			headed[r.run] = true
			lines--
		}
		if lines < 0 && i > 0 {
			rows = rows[:i]
			break
		}
	}
	slices.SortFunc(rows, func(x, y *row) int {
		if !b.many {
			if c := x.run.compare(y.run); c != 0 {
				return c
			}
		}
		return cmp.Compare(x.order, y.order)
	})
	return rows
}

// headed tells whether a row stands below the heading of its run.
func (b *board) headed(r *row) bool {
	return !b.many && r.run != nil && b.apart(r.event.WorkflowID)
}

func (b *board) rank(r *row) (rank int) {
	if b.earlier(r.event.WorkflowID, r.run) {
		rank = 2
	}
	switch r.event.Status {
	case notifier.StatusSuccess, notifier.StatusPending:
		return rank + 1
	default: // what runs or waits, and failures, stay in sight
		return rank
	}
}

// line is the row as a line of the table.
func (b *board) line(r *row) string {
	name, took, attempt := cmp.Or(r.event.TaskID, r.event.WorkflowID), "", ""
	if b.many {
		name = strings.TrimSuffix(b.owner(r.event)+"/"+r.event.TaskID, "/")
	}
	if len(name) > 32 {
		name = ".." + name[len(name)-30:] // the end tells children apart
	}
	if !r.started.IsZero() && r.event.Status.Terminal() {
		took = r.event.Time.Sub(r.started).Round(time.Millisecond).String()
	}
	if r.event.Attempt > 0 {
		attempt = fmt.Sprint(r.event.Attempt)
	}
	return printable(fmt.Sprintf(columns, name, r.event.Status, attempt, took, cmp.Or(r.event.Reason, r.note)))
}

const columns = "%-32s %-9s %3s %8s %s"
