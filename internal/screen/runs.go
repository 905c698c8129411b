package screen

import (
	"cmp"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// run is one run of a workflow id. A workflow id has several if it was continued as new,
// retried, reset or used again.
type run struct {
	id    string
	began time.Time // of the first of its events, as far as they came
	order int       // of first appearance
}

// compare orders the runs of a workflow id; nil, of events that name none, comes first.
func (r *run) compare(other *run) int {
	switch {
	case r == other:
		return 0
	case r == nil:
		return -1
	case other == nil:
		return 1
	}
	return cmp.Or(r.began.Compare(other.began), cmp.Compare(r.order, other.order))
}

// runs are those of one workflow id.
type runs struct {
	byID    map[string]*run
	met     int  // how many there were
	current *run // the one that began last
}

// meet takes note of the run that an event is of.
func (b *board) meet(ev notifier.Event) *run {
	if ev.RunID == "" {
		return nil
	}
	all := b.runs[ev.WorkflowID]
	if all == nil {
		all = &runs{byID: make(map[string]*run)}
		b.runs[ev.WorkflowID] = all
	}
	r := all.byID[ev.RunID]
	switch {
	case r == nil:
		all.met++
		r = &run{id: ev.RunID, began: ev.Time, order: all.met}
		all.byID[ev.RunID] = r
	case ev.Time.Before(r.began):
		r.began = ev.Time
	default:
		return r
	}
	all.current = nil
	for _, other := range all.byID {
		if other.compare(all.current) > 0 {
			all.current = other
		}
	}
	return r
}

// apart tells whether the runs of a workflow id have to be told apart: there is more
// than one.
func (b *board) apart(workflowID string) bool {
	all := b.runs[workflowID]
	return all != nil && len(all.byID) > 1
}

// earlier tells whether a run is not the current one of its workflow id.
func (b *board) earlier(workflowID string, r *run) bool {
	return r != nil && b.runs[workflowID].current != r
}

// heading is the line above what is of a run.
func (b *board) heading(workflowID string, r *run) string {
	if b.earlier(workflowID, r) {
		return "earlier run " + r.id
	}
	return "run " + r.id
}

// runEnd is how many characters of a run id tell it apart from others: its end, since
// ids of the same minute may begin alike.
const runEnd = 8

// owner is a workflow id among others, with the end of the run id if it has several.
func (b *board) owner(ev notifier.Event) string {
	if !b.apart(ev.WorkflowID) || ev.RunID == "" {
		return ev.WorkflowID
	}
	return ev.WorkflowID + "@" + ev.RunID[max(len(ev.RunID)-runEnd, 0):]
}
