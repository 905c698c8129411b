package notifier

// history is what a reader of a log remembers of it, to leave out repeats and
// to know what a task's status was before. Not safe for concurrent use.
type history struct {
	numbers map[string]int64 // by source: its highest number seen
	tasks   map[string]Event // by task key: its current state
}

// Bounds of the memory: past them it starts anew, at the price of a repeat that
// is not noticed or a previous status that is not known.
const (
	maxSources = 1024
	maxTasks   = 20_000
)

func newHistory() *history {
	return &history{numbers: make(map[string]int64), tasks: make(map[string]Event)}
}

// admit takes in the next entry and reports whether it is news. It is not if
// its source has been heard with this or a later number (an append that ran
// twice), or if it says of a task what is its current state already (workflow
// code that ran again on another worker). It sets the previous status.
func (h *history) admit(e *entry) bool {
	if e.Source != "" && e.Number > 0 {
		if e.Number <= h.numbers[e.Source] {
			return false
		}
		if len(h.numbers) >= maxSources {
			clear(h.numbers)
		}
		h.numbers[e.Source] = e.Number
	}
	if e.Kind != KindStatus {
		return true
	}
	key := e.TaskKey()
	current, known := h.tasks[key]
	if known && sameState(&current, &e.Event) {
		return false
	}
	if known && !e.Supersedes(current) {
		return true // late: a fact of its own, not a transition
	}
	if known && e.Previous == "" {
		e.Previous = current.Status
	}
	h.know(key, e.Event)
	return true
}

// know sets a task's current state.
func (h *history) know(key string, ev Event) {
	if len(h.tasks) >= maxTasks {
		clear(h.tasks)
	}
	ev.Data = nil
	h.tasks[key] = ev
}

func sameState(a, b *Event) bool {
	return a.Attempt == b.Attempt && a.Status == b.Status && a.Final == b.Final && a.Reason == b.Reason &&
		a.ActivityID == b.ActivityID
}
