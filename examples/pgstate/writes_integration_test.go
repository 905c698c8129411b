//go:build integration

package pgstate

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/compozy/temporal-redis/internal/redistest"
)

var errOwn = errors.New("own")

// write is a way to change a workflow that has the tasks a and b, b a child of a.
// other is another workflow, with no tasks.
type write struct {
	do     func(ctx context.Context, r Repository, w, other string) error
	fails  error
	loaded bool // by the next read; else it is written through, or as it was
}

var everyWrite = map[string]write{
	"UpsertState of a row that is there": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.UpsertState(ctx, &WorkflowState{WorkflowExecID: w, WorkflowID: "definition", Status: StatusSuccess, Output: json.RawMessage(`{"b": 1.50, "a" : null}`)})
	}},
	"UpdateStatus": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.UpdateStatus(ctx, w, StatusPaused)
	}},
	"SaveStateWithLocking": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.SaveStateWithLocking(ctx, w, func(s *WorkflowState) error {
			s.Error, s.Usage = json.RawMessage(`null`), json.RawMessage(`[1]`)
			return nil
		})
	}},
	"UpsertTask of a task that is there": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.UpsertTask(ctx, task(w, w+"a", "<new>"))
	}},
	"UpsertTask of a new task": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.UpsertTask(ctx, task(w, w+"new", 1))
	}},
	"SaveTaskWithLocking": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.SaveTaskWithLocking(ctx, w+"a", setOutput(2))
	}},
	"SaveTaskWithLocking whose update fails": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.SaveTaskWithLocking(ctx, w+"a", func(s *TaskState) error { s.Status = StatusFailed; return errOwn })
	}, fails: errOwn},
	"UpsertTask that moves a task": {do: func(ctx context.Context, r Repository, w, other string) error {
		return r.UpsertTask(ctx, task(other, w+"b", "moved"))
	}, loaded: true},
	"SaveTaskWithLocking that moves a task": {do: func(ctx context.Context, r Repository, w, other string) error {
		return r.SaveTaskWithLocking(ctx, w+"a", func(s *TaskState) error { s.WorkflowExecID = other; return nil })
	}, loaded: true},
	"DeleteTask, with its children": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.DeleteTask(ctx, w+"a")
	}, loaded: true},
	"DeleteTask of one that is not there": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.DeleteTask(ctx, w+"nobody")
	}},
	"a transaction": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			return errors.Join(tx.UpsertTask(ctx, task(w, w+"a", 1)), tx.UpsertTask(ctx, task(w, w+"new", 2)), tx.UpdateStatus(ctx, w, StatusSuccess),
				tx.SaveTaskWithLocking(ctx, w+"a", setOutput(3)), seesItsOwn(ctx, tx, w, "3"))
		})
	}},
	"a transaction that creates": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			fresh := &WorkflowState{WorkflowExecID: w + "fresh", WorkflowID: "definition", Status: StatusPending}
			again := *fresh
			again.Status = StatusRunning
			return errors.Join(tx.UpsertState(ctx, fresh), tx.UpsertTask(ctx, task(w+"fresh", w+"freshtask", 1)), tx.UpsertState(ctx, &again))
		})
	}},
	"a savepoint that creates and is rolled back": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			fresh := &WorkflowState{WorkflowExecID: w + "not", WorkflowID: "definition", Status: StatusPending}
			_ = tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				return errors.Join(tx.UpsertState(ctx, fresh), errOwn)
			})
			return nil
		})
	}},
	"a transaction that is rolled back": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			return errors.Join(tx.UpsertTask(ctx, task(w, w+"a", 1)), tx.DeleteTask(ctx, w+"b"), tx.UpdateStatus(ctx, w, StatusFailed), errOwn)
		})
	}, fails: errOwn},
	"a savepoint that is released": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			return tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				return errors.Join(tx.UpsertTask(ctx, task(w, w+"a", "inner")), seesItsOwn(ctx, tx, w, "inner"))
			})
		})
	}},
	"a savepoint that is rolled back": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			err := tx.UpsertTask(ctx, task(w, w+"a", "outer"))
			inner := tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				return errors.Join(tx.UpsertTask(ctx, task(w, w+"a", "inner")), tx.UpsertTask(ctx, task(w, w+"b", "inner")), errOwn)
			})
			if !errors.Is(inner, errOwn) {
				return inner
			}
			return errors.Join(err, seesItsOwn(ctx, tx, w, "outer"))
		})
	}, loaded: true},
	"a savepoint whose statement fails": {do: func(ctx context.Context, r Repository, w, _ string) error {
		return r.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
			err := tx.UpsertTask(ctx, task(w, w+"a", "outer"))
			if tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				return tx.UpsertTask(ctx, task("no such workflow", w+"other", 1))
			}) == nil {
				return errors.New("a task without a workflow was written")
			}
			return err
		})
	}},
	"UpdateStatus of no workflow": {do: func(ctx context.Context, r Repository, _, _ string) error {
		return r.UpdateStatus(ctx, "nobody", StatusPaused)
	}, fails: ErrNotFound},
	"SaveTaskWithLocking of no task": {do: func(ctx context.Context, r Repository, _, _ string) error {
		return r.SaveTaskWithLocking(ctx, "nobody", setOutput(1))
	}, fails: ErrNotFound},
}

// seesItsOwn fails unless the transaction reads what it wrote into task a.
func seesItsOwn(ctx context.Context, tx Repository, w, want string) error {
	state, err := tx.GetState(ctx, w)
	if err == nil && !strings.Contains(string(state.Tasks[w+"a"].Output), want) {
		err = errors.New("in the transaction was read " + string(state.Tasks[w+"a"].Output) + " and not " + want)
	}
	return err
}

func TestRepositories_leave_what_they_say(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	writer, reader := d.start(t, dial(t, server.URL()), Options{}), d.start(t, dial(t, server.URL()), Options{})
	for name, w := range everyWrite {
		for kind, r := range map[string]Repository{"cached": writer, "plain": d.plain} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				workflow, other := kind+" "+name+" ", kind+" "+name+" other"
				d.seed(t, workflow, workflow+"a", workflow+"b")
				d.seed(t, other)
				child, below := task(workflow, workflow+"b", 0), task(other, other+"c", 0)
				child.ParentStateID, below.ParentStateID = new(workflow+"a"), new(workflow+"b")
				must(t, d.plain.UpsertTask(t.Context(), child))
				must(t, d.plain.UpsertTask(t.Context(), below))
				if kind == "plain" {
					if err := w.do(t.Context(), r, workflow, other); !errors.Is(err, w.fails) {
						t.Errorf("got %v; want %v", err, w.fails)
					}
					return
				}
				for _, id := range []string{workflow, other} {
					reader.agrees(t, d, id)
				}
				if err := w.do(t.Context(), r, workflow, other); !errors.Is(err, w.fails) {
					t.Errorf("got %v; want %v", err, w.fails)
				}
				if loaded := reader.agrees(t, d, workflow); loaded != w.loaded {
					t.Errorf("the next read loaded: %v; want %v", loaded, w.loaded)
				}
				reader.agrees(t, d, other)
				if _, err := reader.GetState(t.Context(), workflow+"not"); !errors.Is(err, ErrNotFound) {
					t.Errorf("a workflow that is not there gives %v", err)
				}
				if name == "a transaction that creates" && reader.agrees(t, d, workflow+"fresh") {
					t.Error("the new workflow was loaded")
				}
			})
		}
	}
}

func TestGetState_of_nobody(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	cached := d.start(t, dial(t, redistest.Start(t).URL()), Options{})
	for _, r := range []Repository{cached, d.plain} {
		if state, err := r.GetState(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, %v", state, err)
		}
	}
	must(t, cached.UpsertState(t.Context(), &WorkflowState{WorkflowExecID: "nobody", WorkflowID: "definition", Status: StatusPending}))
	cached.agrees(t, d, "nobody")
	_, err := d.pool.Exec(t.Context(), "DELETE FROM workflow_states WHERE workflow_exec_id = 'nobody'")
	must(t, err)
	must(t, cached.Invalidate(t.Context(), "nobody"))
	if state, err := cached.GetState(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after it was deleted behind the back: %v, %v", state, err)
	}
}
