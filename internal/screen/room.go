package screen

import (
	"cmp"
	"maps"
	"slices"
)

// maxRows bounds a board: who watches all workflows for weeks sees more tasks than there
// is room for.
const maxRows = 4096

// maxLate bounds how many latencies are kept, the newest.
const maxLate = 100_000

// forgotten is what there were rows of.
type forgotten struct{ rows, tasks int }

// makeRoom forgets a quarter of the rows if the board is full: those that ended before
// those that go on, and of them those first that had no event for longest.
func (b *board) makeRoom() {
	if len(b.rows) < maxRows {
		return
	}
	goesOn := func(key string) int {
		if b.rows[key].event.Status.Terminal() {
			return 0
		}
		return 1
	}
	keys := slices.SortedFunc(maps.Keys(b.rows), func(x, y string) int {
		return cmp.Or(cmp.Compare(goesOn(x), goesOn(y)), cmp.Compare(b.rows[x].touched, b.rows[y].touched))
	})
	for _, key := range keys[:maxRows/4] {
		b.forgotten.rows++
		if !b.rows[key].event.OfWorkflow() {
			b.forgotten.tasks++
		}
		delete(b.rows, key)
	}
	b.forgetRuns()
}

// forgetRuns forgets the runs of which there is no row, except the current ones of
// workflow ids of which there is.
func (b *board) forgetRuns() {
	used := make(map[*run]bool)
	ids := make(map[string]bool)
	for _, r := range b.rows {
		used[r.run], ids[r.event.WorkflowID] = true, true
	}
	for id, all := range b.runs {
		if !ids[id] {
			delete(b.runs, id)
			continue
		}
		maps.DeleteFunc(all.byID, func(_ string, r *run) bool { return !used[r] && r != all.current })
	}
}
