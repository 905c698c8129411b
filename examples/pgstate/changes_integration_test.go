//go:build integration

package pgstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

// change is a way to change a workflow: it makes counters larger, and gives what
// they are if the commit happens.
type change func(ctx context.Context, w *writer, r Repository) (counts, error)

// writer is one of those who change workflows at the same time.
type writer struct {
	*history
	number   int
	workflow string // that of the next change
	task     string // a shared one of it
	owned    map[string]int
}

var everyChange = []change{
	byTask, byTask, byTask, byHeadAndTask, byHeadAndTask, byHeadAndTask, byOwnTask, byOwnTask,
	byStatus, rolledBack, behindSavepoint, toggled, refusedByServer,
}

// write changes workflows, and books what is known of it.
func (h *history) write(ctx context.Context, number int) {
	random := rand.New(rand.NewPCG(1, uint64(number)))
	w := &writer{history: h, number: number, owned: map[string]int{}}
	for i := range changesEach {
		w.workflow = h.workflows[random.IntN(len(h.workflows))]
		w.task = shared(w.workflow, random.IntN(sharedTasks))
		p := h.processes[random.IntN(len(h.processes))]
		change := everyChange[random.IntN(len(everyChange))]
		if h.fault.unknown && i > changesEach*9/10 && random.IntN(3) == 0 {
			change = committedLate // from then on reads of the workflow go past the cache
		}
		left, err := change(ctx, w, p)
		if err != nil && !h.fault.explains(err) {
			h.t.Errorf("a change failed: %v", err)
		}
		for id, n := range left {
			h.ledgers[id].book(err)
			if err == nil {
				h.ledgers[id].tell(n)
			}
		}
		if i == restAfter {
			h.rest(ctx, w)
		}
		if h.fault.inject != nil && number == 0 && i%30 == 15 {
			h.fault.inject(ctx, h)
		}
	}
}

// restAfter is the change after which the writers rest, before there are faults.
const restAfter = 10

// rest has one writer write alone, of those who come together here. What was read
// before that must be in Redis, and so must be what was written: else whatever the
// test finds later says nothing.
func (h *history) rest(ctx context.Context, w *writer) {
	h.meeting.join()
	defer h.meeting.join()
	if w.number != 0 {
		return
	}
	hits, written := h.hits(), h.count("written")
	for range 20 { // what is in Redis may expire, or be evicted, in between
		h.readOn(ctx, readers*historyProcesses*int64(len(h.workflows)))
		left, err := byTask(ctx, w, h.processes[0])
		if err != nil {
			h.t.Errorf("nothing else was written, and a change failed: %v", err)
			return
		}
		h.ledgers[w.task].book(nil)
		h.ledgers[w.task].tell(left[w.task])
		if h.hits() > hits && h.count("written") > written {
			return
		}
	}
	h.t.Errorf("nothing else was written, but Redis answered %d reads and took %v of 20 changes", h.hits()-hits, h.count("written")-written)
}

// meeting is where writers wait for each other.
type meeting struct {
	mu   sync.Mutex
	here int
	all  chan struct{}
}

func newMeeting() *meeting { return &meeting{all: make(chan struct{})} }

// join returns when all writers did.
func (m *meeting) join() {
	m.mu.Lock()
	all := m.all
	if m.here++; m.here == writers {
		m.here, m.all = 0, make(chan struct{})
		close(all)
	}
	m.mu.Unlock()
	<-all
}

// count makes a task's counter larger.
func count(left counts, counted bool) func(*TaskState) error { return countLate(left, counted, 0) }

// countLate is count by a commit that takes so many seconds.
func countLate(left counts, counted bool, late float64) func(*TaskState) error {
	return func(s *TaskState) (err error) {
		var c taskCount
		if err := json.Unmarshal(s.Output, &c); err != nil {
			return err
		}
		c.N, c.Late = c.N+1, late
		if counted {
			c.Counted++
		}
		left[s.TaskExecID] = c.N
		s.Output, err = json.Marshal(c)
		return err
	}
}

// countHead makes a workflow's counter larger.
func countHead(left counts, more func(*headCount)) func(*WorkflowState) error {
	return func(s *WorkflowState) (err error) {
		var c headCount
		if err := json.Unmarshal(s.Output, &c); err != nil {
			return err
		}
		c.N++
		more(&c)
		left[s.WorkflowExecID] = c.N
		s.Output, err = json.Marshal(c)
		return err
	}
}

// byTask is what writers of one row do: each locks it.
func byTask(ctx context.Context, w *writer, r Repository) (counts, error) {
	left := counts{w.task: 0}
	return left, r.SaveTaskWithLocking(ctx, w.task, count(left, false))
}

func byHeadAndTask(ctx context.Context, w *writer, r Repository) (counts, error) {
	left := counts{w.workflow: 0, w.task: 0}
	return left, r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		if err := tx.SaveStateWithLocking(ctx, w.workflow, countHead(left, func(*headCount) {})); err != nil {
			return err
		}
		return tx.SaveTaskWithLocking(ctx, w.task, count(left, true))
	})
}

// byOwnTask writes a row whole, without a look at it, as its only writer may.
func byOwnTask(ctx context.Context, w *writer, r Repository) (counts, error) {
	id := own(w.workflow, w.number)
	n := w.owned[id] + 1
	err := r.UpsertTask(ctx, task(w.workflow, id, taskCount{N: n}))
	if err == nil || errors.Is(err, ErrCommitUnknown) {
		w.owned[id] = n
	}
	return counts{id: n}, err
}

func byStatus(ctx context.Context, w *writer, r Repository) (counts, error) {
	return nil, r.UpdateStatus(ctx, w.workflow, StatusWaiting)
}

var errChangedMind = errors.New("changed its mind")

// rolledBack leaves nothing: what it counted is not committed.
func rolledBack(ctx context.Context, w *writer, r Repository) (counts, error) {
	err := r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		return errors.Join(tx.SaveTaskWithLocking(ctx, w.task, count(counts{}, true)), errChangedMind)
	})
	return nil, unless(err, errChangedMind)
}

// behindSavepoint leaves what it wrote before and after a savepoint that is rolled
// back.
func behindSavepoint(ctx context.Context, w *writer, r Repository) (counts, error) {
	left := counts{w.task: 0}
	return left, r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		if err := tx.SaveTaskWithLocking(ctx, w.task, count(left, false)); err != nil {
			return err
		}
		return unless(tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			return errors.Join(tx.SaveTaskWithLocking(ctx, w.task, count(counts{}, true)), errChangedMind)
		}), errChangedMind)
	})
}

// toggled creates or deletes a task.
func toggled(ctx context.Context, w *writer, r Repository) (counts, error) {
	left := counts{w.workflow: 0}
	return left, r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		var there bool
		err := tx.SaveStateWithLocking(ctx, w.workflow, countHead(left, func(c *headCount) {
			c.Toggled++
			c.Extra = !c.Extra
			there = c.Extra
		}))
		switch {
		case err != nil:
			return err
		case there:
			return tx.UpsertTask(ctx, task(w.workflow, extra(w.workflow), taskCount{}))
		}
		return tx.DeleteTask(ctx, extra(w.workflow))
	})
}

// refusedByServer fails in COMMIT, for a parent that is not there.
func refusedByServer(ctx context.Context, w *writer, r Repository) (counts, error) {
	orphan := task(w.workflow, fmt.Sprintf("%s orphan %d", w.workflow, w.number), taskCount{})
	orphan.ParentStateID = new("nobody")
	return nil, unless(r.UpsertTask(ctx, orphan), redisstate.ErrRolledBack)
}

// unless gives an error that is not the one that was to come.
func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("no error; want %w", expected)
	}
	return err
}

// committedLate loses its connection in a COMMIT that takes a while longer. It
// tells by itself what comes of it.
func committedLate(ctx context.Context, w *writer, _ Repository) (counts, error) {
	proxy, err := faultproxy.Run(w.addr(w.t))
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	name := fmt.Sprintf("late %d", w.lateNum.Add(1)) + w.workflow
	p := w.start(w.t, w.fault.client(w.t), w.fault.options, through(proxy), func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = name
	})
	done := make(chan error, 1)
	left := counts{}
	go func() {
		done <- p.SaveTaskWithLocking(ctx, w.task, countLate(left, false, 0.2))
	}()
	waited(ctx, func() bool {
		var n int
		err := w.pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'PgSleep'", name).Scan(&n)
		return err == nil && n == 1 || len(done) > 0
	})
	cut(proxy)
	if err := <-done; !errors.Is(err, ErrCommitUnknown) {
		return left, err // it was committed before anybody looked
	}
	w.ledgers[w.task].book(ErrCommitUnknown)
	workflow, id, n := w.workflow, w.task, left[w.task]
	w.late.Go(func() {
		waited(ctx, func() bool {
			state, err := w.plain.GetState(ctx, workflow)
			if err != nil {
				return false
			}
			all, _ := countsOf(state)
			return all[id] >= n
		})
		w.ledgers[id].tell(n)
	})
	return nil, nil
}
