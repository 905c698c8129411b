package pgstate

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Postgres is a Repository without a cache.
type Postgres struct {
	tables
	pool *pgxpool.Pool // nil in a transaction
}

// NewPostgres makes one on a pool, which stays the caller's.
func NewPostgres(pool *pgxpool.Pool) *Postgres { return &Postgres{tables: tables{pool}, pool: pool} }

// GetState implements Repository. Outside of a transaction the workflow and its
// tasks are of one moment; inside, as its isolation level has it.
func (p *Postgres) GetState(ctx context.Context, workflowExecID string) (*WorkflowState, error) {
	if p.pool == nil {
		return p.workflow(ctx, workflowExecID)
	}
	var state *WorkflowState
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, p.pool, snapshot, func(tx pgx.Tx) (err error) {
		state, err = tables{tx}.workflow(ctx, workflowExecID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return state, nil
}

// UpsertState implements Repository.
func (p *Postgres) UpsertState(ctx context.Context, state *WorkflowState) error {
	_, _, err := p.upsertWorkflow(ctx, state)
	return err
}

// UpdateStatus implements Repository.
func (p *Postgres) UpdateStatus(ctx context.Context, workflowExecID string, status Status) error {
	_, err := p.updateStatus(ctx, workflowExecID, status)
	return err
}

// SaveStateWithLocking implements Repository.
func (p *Postgres) SaveStateWithLocking(ctx context.Context, workflowExecID string, update func(*WorkflowState) error) error {
	return p.atOnce(ctx, func(t tables) error {
		_, err := t.saveWorkflow(ctx, workflowExecID, update)
		return err
	})
}

// UpsertTask implements Repository.
func (p *Postgres) UpsertTask(ctx context.Context, task *TaskState) error {
	return p.atOnce(ctx, func(t tables) error {
		_, _, err := t.upsertTask(ctx, task)
		return err
	})
}

// SaveTaskWithLocking implements Repository.
func (p *Postgres) SaveTaskWithLocking(ctx context.Context, taskExecID string, update func(*TaskState) error) error {
	return p.atOnce(ctx, func(t tables) error {
		_, _, err := t.saveTask(ctx, taskExecID, update)
		return err
	})
}

// DeleteTask implements Repository.
func (p *Postgres) DeleteTask(ctx context.Context, taskExecID string) error {
	return p.atOnce(ctx, func(t tables) error {
		_, err := t.deleteTask(ctx, taskExecID)
		return err
	})
}

// WithTransaction implements Repository.
func (p *Postgres) WithTransaction(ctx context.Context, fn func(ctx context.Context, tx Repository) error) error {
	end := commitTx
	if p.pool == nil {
		end = releaseSavepoint
	}
	return transact(ctx, p.db, func(tx pgx.Tx) error { return fn(ctx, &Postgres{tables: tables{tx}}) }, end)
}

// atOnce runs what takes several statements: in the transaction that there is, or
// in one of its own.
func (p *Postgres) atOnce(ctx context.Context, do func(tables) error) error {
	if p.pool == nil {
		return do(p.tables)
	}
	return transact(ctx, p.db, func(tx pgx.Tx) error { return do(tables{tx}) }, commitTx)
}
