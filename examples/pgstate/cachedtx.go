package pgstate

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/compozy/temporal-redis/redisstate"
)

// cachedTx is a Repository in a transaction of a Cached, or behind a savepoint of
// one. What it writes it collects for the commit.
type cachedTx struct {
	tables
	changed *changes
	written map[string]bool // workflows since the savepoint
}

func newCachedTx(tx pgx.Tx, changed *changes) *cachedTx {
	return &cachedTx{tables: tables{tx}, changed: changed, written: make(map[string]bool)}
}

// GetState implements Repository: it sees what the transaction sees.
func (t *cachedTx) GetState(ctx context.Context, workflowExecID string) (*WorkflowState, error) {
	return t.workflow(ctx, workflowExecID)
}

// UpsertState implements Repository.
func (t *cachedTx) UpsertState(ctx context.Context, state *WorkflowState) error {
	left, created, err := t.upsertWorkflow(ctx, state)
	if err == nil && created { // it has no tasks yet: this is all of it
		t.written[left.WorkflowExecID] = true
		t.changed.Put(left.WorkflowExecID, aggregate{Head: *left})
		return nil
	}
	return t.leftWorkflow(left, err)
}

// UpdateStatus implements Repository.
func (t *cachedTx) UpdateStatus(ctx context.Context, workflowExecID string, status Status) error {
	left, err := t.updateStatus(ctx, workflowExecID, status)
	return t.leftWorkflow(left, err)
}

// SaveStateWithLocking implements Repository.
func (t *cachedTx) SaveStateWithLocking(ctx context.Context, workflowExecID string, update func(*WorkflowState) error) error {
	left, err := t.saveWorkflow(ctx, workflowExecID, update)
	return t.leftWorkflow(left, err)
}

// UpsertTask implements Repository.
func (t *cachedTx) UpsertTask(ctx context.Context, task *TaskState) error {
	left, movedFrom, err := t.upsertTask(ctx, task)
	return t.leftTask(left, movedFrom, err)
}

// SaveTaskWithLocking implements Repository.
func (t *cachedTx) SaveTaskWithLocking(ctx context.Context, taskExecID string, update func(*TaskState) error) error {
	left, movedFrom, err := t.saveTask(ctx, taskExecID, update)
	return t.leftTask(left, movedFrom, err)
}

// DeleteTask implements Repository.
func (t *cachedTx) DeleteTask(ctx context.Context, taskExecID string) error {
	workflows, err := t.deleteTask(ctx, taskExecID)
	if err == nil {
		t.takeOut(workflows...)
	}
	return err
}

// WithTransaction implements Repository by a savepoint. If that is rolled back,
// what was written behind it is taken out: what was put in before it is not known
// apart from that.
func (t *cachedTx) WithTransaction(ctx context.Context, fn func(ctx context.Context, tx Repository) error) error {
	written, kept := make(map[string]bool), false
	defer func() { // also when fn panics
		for id := range written {
			t.written[id] = true
			if !kept {
				t.changed.Invalidate(id)
			}
		}
	}()
	err := transact(ctx, t.db, func(tx pgx.Tx) error {
		inner := newCachedTx(tx, t.changed)
		inner.written = written
		return fn(ctx, inner)
	}, releaseSavepoint)
	kept = err == nil
	return err
}

// leftWorkflow collects the row that a write left.
func (t *cachedTx) leftWorkflow(left *WorkflowState, err error) error {
	if err != nil {
		return err
	}
	t.written[left.WorkflowExecID] = true
	redisstate.PutHead(t.changed, left.WorkflowExecID, *left)
	return nil
}

func (t *cachedTx) leftTask(left *TaskState, movedFrom string, err error) error {
	switch {
	case err != nil:
		return err
	case movedFrom != "":
		t.takeOut(movedFrom, left.WorkflowExecID)
	default:
		t.written[left.WorkflowExecID] = true
		redisstate.PutPart(t.changed, left.WorkflowExecID, left.TaskExecID, *left)
	}
	return nil
}

func (t *cachedTx) takeOut(ids ...string) {
	for _, id := range ids {
		t.written[id] = true
	}
	t.changed.Invalidate(ids...)
}
