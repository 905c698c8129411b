//go:build integration

package pgstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// headCount is the output of a workflow's row: N counts the transactions that
// changed it, Extra says whether there is a task "extra", and Toggled counts how
// often that changed.
type headCount struct {
	N       int  `json:"n"`
	Toggled int  `json:"toggled"`
	Extra   bool `json:"extra"`
}

// taskCount is the output of a task's row: N counts the transactions that changed
// it, Counted those that changed the workflow's row too.
type taskCount struct {
	N       int     `json:"n"`
	Counted int     `json:"counted"`
	Late    float64 `json:"late,omitempty"` // seconds that the commit takes
}

// counts are the counters of a workflow: its head's under its own id, and its
// tasks'. Every commit makes one larger and none smaller.
type counts map[string]int

// countsOf reads them, and checks what holds in every state that ever was.
func countsOf(state *WorkflowState) (counts, error) {
	var head headCount
	if err := json.Unmarshal(state.Output, &head); err != nil {
		return nil, err
	}
	all, counted := counts{state.WorkflowExecID: head.N}, 0
	for id, task := range state.Tasks {
		var n taskCount
		if err := json.Unmarshal(task.Output, &n); err != nil {
			return nil, err
		}
		counted += n.Counted
		if id != extra(state.WorkflowExecID) {
			all[id] = n.N
		}
	}
	if _, there := state.Tasks[extra(state.WorkflowExecID)]; there != head.Extra || counted+head.Toggled != head.N {
		return all, fmt.Errorf("it never was: %+v with an extra task (%v), and tasks that counted %d", head, there, counted)
	}
	return all, nil
}

func extra(workflow string) string { return workflow + " extra" }

// ledger is when it was known that a counter has reached a value.
type ledger struct {
	mu      sync.Mutex
	values  []int // rising
	times   []time.Time
	sure    int // transactions that are committed
	maybe   int // that may be
	refused int // that are not
}

func (l *ledger) tell(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.values) == 0 || l.values[len(l.values)-1] < n {
		l.values, l.times = append(l.values, n), append(l.times, time.Now())
	}
}

// age is for how long, when a read began, something later than n was known to be
// there; 0 if nothing was.
func (l *ledger) age(n int, began time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearch(l.values, n+1)
	if i == len(l.values) {
		return 0
	}
	return max(0, began.Sub(l.times[i]))
}

func (l *ledger) book(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.sure++
	case errors.Is(err, ErrCommitUnknown):
		l.maybe++
	default:
		l.refused++
	}
}

// history follows every read of workflows while they are written.
type history struct {
	*database
	t         *testing.T
	fault     fault
	processes []*process
	workflows []string
	counters  map[string][]string // by the workflow
	ledgers   map[string]*ledger  // by the counter
	late      sync.WaitGroup      // commits whose writer gave up
	meeting   *meeting

	mu      sync.Mutex
	seen    map[string]map[int]counts // states that were read, by workflow and the sum of their counters
	torn    error                     // the first state that never was
	oldest  time.Duration
	reads   atomic.Int64
	lateNum atomic.Int64
}

const (
	historyProcesses = 4
	writers          = 4
	readers          = 4
	changesEach      = 80
	sharedTasks      = 3
)

// newHistory seeds workflows whose names begin with name.
func newHistory(t *testing.T, d *database, name string, f fault) *history {
	h := &history{database: d, t: t, fault: f, counters: map[string][]string{}, ledgers: map[string]*ledger{}, seen: map[string]map[int]counts{}, meeting: newMeeting()}
	for i := range 2 {
		h.seedCounters(fmt.Sprintf("%s %d", name, i))
	}
	return h
}

func shared(workflow string, i int) string { return fmt.Sprintf("%s shared %d", workflow, i) }
func own(workflow string, i int) string    { return fmt.Sprintf("%s own %d", workflow, i) }

func (h *history) seedCounters(workflow string) {
	h.t.Helper()
	h.workflows = append(h.workflows, workflow)
	h.seen[workflow] = map[int]counts{}
	ctx, head := h.t.Context(), json.RawMessage(`{"n":0}`)
	must(h.t, h.plain.UpsertState(ctx, &WorkflowState{WorkflowExecID: workflow, WorkflowID: "definition", Status: StatusRunning, Output: head}))
	ids := []string{workflow}
	for i := range sharedTasks {
		ids = append(ids, shared(workflow, i))
	}
	for i := range writers {
		ids = append(ids, own(workflow, i))
	}
	h.counters[workflow] = ids
	for i, id := range ids {
		h.ledgers[id] = &ledger{}
		if i > 0 {
			must(h.t, h.plain.UpsertTask(ctx, task(workflow, id, taskCount{})))
		}
	}
}

// read reads a workflow through a process and checks what it gives: nothing older
// than what was in place before it began, and nothing that never was.
func (h *history) read(ctx context.Context, p *process, workflow string) error {
	began := time.Now()
	state, err := p.GetState(ctx, workflow)
	if err != nil {
		return err
	}
	h.reads.Add(1)
	got, torn := countsOf(state)
	if got == nil {
		return torn
	}
	var errs []error
	for _, id := range h.counters[workflow] {
		n, there := got[id]
		if !there {
			return fmt.Errorf("%s: there is no %s", workflow, id)
		}
		if age := h.ledgers[id].age(n, began); age > 0 {
			h.mu.Lock()
			h.oldest = max(h.oldest, age)
			h.mu.Unlock()
			if h.fault.old == 0 {
				errs = append(errs, fmt.Errorf("%s: %d was read %v after something later was in place", id, n, age))
			}
		}
	}
	if torn == nil {
		torn = h.compare(workflow, got)
	}
	if torn != nil {
		h.mu.Lock()
		h.torn = torn
		h.mu.Unlock()
		if !h.fault.losesMarks {
			errs = append(errs, fmt.Errorf("%s: %w", workflow, torn))
		}
	}
	return errors.Join(errs...)
}

// compare checks a state against one that was read with as many commits: that must
// be the same one, since commits come one after the other.
func (h *history) compare(workflow string, got counts) error {
	sum := 0
	for _, n := range got {
		sum += n
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, ok := h.seen[workflow][sum]; ok && !maps.Equal(before, got) {
		return fmt.Errorf("two states of which neither was before the other: %v and %v", before, got)
	}
	h.seen[workflow][sum] = got
	return nil
}

// chain checks that of all states that were read each was before the next.
func (h *history) chain() error {
	for workflow, seen := range h.seen {
		var before counts
		for _, sum := range slices.Sorted(maps.Keys(seen)) {
			for id, n := range before {
				if seen[sum][id] < n {
					return fmt.Errorf("%s: two states of which neither was before the other: %v and %v", workflow, before, seen[sum])
				}
			}
			before = seen[sum]
		}
	}
	return nil
}

// run lets writers and readers at the workflows. The fault comes now and then.
func (h *history) run() {
	ctx := h.t.Context()
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	for n := range writers {
		writing.Go(func() { h.write(ctx, n) })
	}
	for n := range readers {
		reading.Go(func() {
			tick := time.NewTicker(time.Millisecond) // writers want to run, too
			defer tick.Stop()
			for i := n; !done.Load(); i++ {
				<-tick.C
				if err := h.read(ctx, h.processes[i%len(h.processes)], h.workflows[i/len(h.processes)%len(h.workflows)]); err != nil {
					h.t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	h.late.Wait()
	for _, p := range h.processes {
		for _, workflow := range h.workflows {
			if err := h.read(ctx, p, workflow); err != nil {
				h.t.Error(err)
			}
		}
	}
	done.Store(true)
	reading.Wait()
	h.judge()
}

// judge checks what is to be seen at the end.
func (h *history) judge() {
	if err := h.chain(); err != nil && h.torn == nil {
		h.torn = err
		if !h.fault.losesMarks {
			h.t.Error(err)
		}
	}
	for _, workflow := range h.workflows {
		state, err := h.plain.GetState(h.t.Context(), workflow)
		must(h.t, err)
		there, err := countsOf(state)
		must(h.t, err)
		for id, n := range there {
			if l := h.ledgers[id]; n < l.sure || n > l.sure+l.maybe {
				h.t.Errorf("%s: %d commits are in the database; %d are known, %d may be, and %d were refused", id, n, l.sure, l.maybe, l.refused)
			}
		}
	}
	var slowest time.Duration
	for _, p := range h.processes {
		slowest = max(slowest, p.slowest)
	}
	if bound := h.fault.old + slowest + time.Second; h.fault.old > 0 && h.oldest > bound {
		h.t.Errorf("a state was %v too old; the bound is %v", h.oldest, bound)
	}
	h.t.Logf("%d reads, %d of them hits; %v changes written through, %v refused; oldest state %v; torn: %v", h.reads.Load(), h.hits(), h.count("written"), h.count("refused"), h.oldest, h.torn)
}

// hits is how many reads Redis answered, of those that are over.
func (h *history) hits() int64 {
	n := h.reads.Load()
	for _, p := range h.processes {
		n -= p.loads.Load()
	}
	return n
}

// count is how often a thing happened in all processes.
func (h *history) count(event string) (n float64) {
	for _, p := range h.processes {
		n += p.count(h.t, event)
	}
	return n
}
