package pgstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// handle is what a pool and a transaction have in common.
type handle interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// tables are the statements. Each write gives the row that it leaves.
type tables struct{ db handle }

const (
	workflowColumns = `workflow_exec_id, workflow_id, status, usage, input, output, error, created_at, updated_at`

	selectWorkflow = `SELECT ` + workflowColumns + ` FROM workflow_states WHERE workflow_exec_id = $1`

	upsertWorkflow = `INSERT INTO workflow_states (workflow_exec_id, workflow_id, status, usage, input, output, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (workflow_exec_id) DO UPDATE SET workflow_id = EXCLUDED.workflow_id, status = EXCLUDED.status,
			usage = EXCLUDED.usage, input = EXCLUDED.input, output = EXCLUDED.output, error = EXCLUDED.error, updated_at = now()
		RETURNING ` + workflowColumns + `, xmax = 0 AS created`

	updateStatus = `UPDATE workflow_states SET status = $2, updated_at = now() WHERE workflow_exec_id = $1
		RETURNING ` + workflowColumns

	taskColumns = `task_exec_id, task_id, workflow_exec_id, workflow_id, component, status, execution_type, usage,
		agent_id, tool_id, action_id, parent_state_id, input, output, error, created_at, updated_at`

	selectTask  = `SELECT ` + taskColumns + ` FROM task_states WHERE task_exec_id = $1`
	selectTasks = `SELECT ` + taskColumns + ` FROM task_states WHERE workflow_exec_id = $1`

	// A task of another workflow is locked and left as it is.
	upsertTask = `INSERT INTO task_states (task_exec_id, task_id, workflow_exec_id, workflow_id, component, status, execution_type, usage,
			agent_id, tool_id, action_id, parent_state_id, input, output, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (task_exec_id) DO UPDATE SET ` + setTask + `
		WHERE task_states.workflow_exec_id = EXCLUDED.workflow_exec_id
		RETURNING ` + taskColumns

	setTask = `task_id = EXCLUDED.task_id, workflow_id = EXCLUDED.workflow_id, component = EXCLUDED.component,
		status = EXCLUDED.status, execution_type = EXCLUDED.execution_type, usage = EXCLUDED.usage, agent_id = EXCLUDED.agent_id,
		tool_id = EXCLUDED.tool_id, action_id = EXCLUDED.action_id, parent_state_id = EXCLUDED.parent_state_id,
		input = EXCLUDED.input, output = EXCLUDED.output, error = EXCLUDED.error, updated_at = now()`

	moveTask = `UPDATE task_states SET workflow_exec_id = $2 WHERE task_exec_id = $1`

	deleteTask = `DELETE FROM task_states WHERE task_exec_id = $1`

	// With a plain FOR UPDATE nobody adds a task below one that was found.
	lockTask       = `SELECT task_exec_id, workflow_exec_id FROM task_states WHERE task_exec_id = $1 FOR UPDATE`
	lockTasksBelow = `SELECT task_exec_id, workflow_exec_id FROM task_states WHERE parent_state_id = ANY ($1) FOR UPDATE`

	// The key stays what it is. A plain FOR UPDATE would hold up those who write
	// tasks of a workflow, when the database looks whether it is there.
	forUpdate = ` FOR NO KEY UPDATE`
)

// workflow gives a workflow with its tasks, by two statements: who wants them of
// one moment calls it in a transaction that is REPEATABLE READ.
func (t tables) workflow(ctx context.Context, id string) (*WorkflowState, error) {
	var batch pgx.Batch
	batch.Queue(selectWorkflow, id)
	batch.Queue(selectTasks, id)
	results := t.db.SendBatch(ctx, &batch)
	defer func() { _ = results.Close() }()
	rows, _ := results.Query() // the rows tell its error
	state, err := workflowOf(rows)
	if err != nil {
		return nil, fail("read workflow", err)
	}
	rows, _ = results.Query()
	tasks, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[TaskState])
	if err != nil {
		return nil, fail("read tasks", err)
	}
	state.Tasks = make(map[string]*TaskState, len(tasks))
	for _, task := range tasks {
		state.Tasks[task.TaskExecID] = task.inUTC()
	}
	return state, results.Close()
}

// upsertWorkflow tells whether the row is new: a row that an update leaves bears
// the mark of the lock that ON CONFLICT took.
func (t tables) upsertWorkflow(ctx context.Context, w *WorkflowState) (left *WorkflowState, created bool, err error) {
	rows, _ := t.db.Query(ctx, upsertWorkflow, w.WorkflowExecID, w.WorkflowID, w.Status, w.Usage, w.Input, w.Output, w.Error)
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[struct {
		WorkflowState
		Created bool `db:"created"`
	}])
	if err != nil {
		return nil, false, fail("write workflow", err)
	}
	return row.inUTC(), row.Created, nil
}

func (t tables) updateStatus(ctx context.Context, id string, status Status) (*WorkflowState, error) {
	rows, _ := t.db.Query(ctx, updateStatus, id, status)
	left, err := workflowOf(rows)
	return left, fail("write status", err)
}

// saveWorkflow needs a transaction.
func (t tables) saveWorkflow(ctx context.Context, id string, update func(*WorkflowState) error) (*WorkflowState, error) {
	rows, _ := t.db.Query(ctx, selectWorkflow+forUpdate, id)
	state, err := workflowOf(rows)
	if err != nil {
		return nil, fail("lock workflow", err)
	}
	if err := update(state); err != nil {
		return nil, err
	}
	state.WorkflowExecID = id
	left, _, err := t.upsertWorkflow(ctx, state)
	return left, err
}

// upsertTask also tells the workflow to which the task belonged, if that is
// another one. It needs a transaction.
func (t tables) upsertTask(ctx context.Context, s *TaskState) (left *TaskState, movedFrom string, err error) {
	left, err = t.tryUpsertTask(ctx, s)
	if !errors.Is(err, pgx.ErrNoRows) {
		return left, "", fail("write task", err)
	}
	rows, _ := t.db.Query(ctx, selectTask, s.TaskExecID)
	before, err := taskOf(rows)
	if err != nil {
		return nil, "", fail("read task to move", err)
	}
	rows, _ = t.db.Query(ctx, moveTask, s.TaskExecID, s.WorkflowExecID)
	if rows.Close(); rows.Err() != nil {
		return nil, "", fail("move task", rows.Err())
	}
	left, err = t.tryUpsertTask(ctx, s)
	return left, before.WorkflowExecID, fail("write moved task", err)
}

func (t tables) tryUpsertTask(ctx context.Context, s *TaskState) (*TaskState, error) {
	rows, _ := t.db.Query(ctx, upsertTask, s.TaskExecID, s.TaskID, s.WorkflowExecID, s.WorkflowID, s.Component, s.Status, s.executionType(), s.Usage,
		s.AgentID, s.ToolID, s.ActionID, s.ParentStateID, s.Input, s.Output, s.Error)
	return taskOf(rows)
}

// saveTask needs a transaction.
func (t tables) saveTask(ctx context.Context, id string, update func(*TaskState) error) (left *TaskState, movedFrom string, err error) {
	rows, _ := t.db.Query(ctx, selectTask+forUpdate, id)
	state, err := taskOf(rows)
	if err != nil {
		return nil, "", fail("lock task", err)
	}
	if err := update(state); err != nil {
		return nil, "", err
	}
	state.TaskExecID = id
	return t.upsertTask(ctx, state)
}

// deleteTask deletes a task and, as the foreign key has it, those below it. It
// tells their workflows, which need not be one: none if the task was not there.
func (t tables) deleteTask(ctx context.Context, id string) (workflows []string, err error) {
	gone := make(map[string]bool)
	rows, _ := t.db.Query(ctx, lockTask, id) // the rows tell its error
	for {
		var level []string
		var task, workflow string
		_, err := pgx.ForEachRow(rows, []any{&task, &workflow}, func() error {
			if !gone[task] {
				gone[task] = true
				level = append(level, task)
				workflows = append(workflows, workflow)
			}
			return nil
		})
		if err != nil {
			return nil, fail("delete task", err)
		}
		if len(level) == 0 {
			break
		}
		rows, _ = t.db.Query(ctx, lockTasksBelow, level)
	}
	_, err = t.db.Exec(ctx, deleteTask, id)
	return workflows, fail("delete task", err)
}

func workflowOf(rows pgx.Rows) (*WorkflowState, error) {
	state, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[WorkflowState])
	if err != nil {
		return nil, err
	}
	return state.inUTC(), nil
}

// inUTC makes the times what they are when they come from Redis.
func (s *WorkflowState) inUTC() *WorkflowState {
	s.CreatedAt, s.UpdatedAt = s.CreatedAt.UTC(), s.UpdatedAt.UTC()
	return s
}

func taskOf(rows pgx.Rows) (*TaskState, error) {
	state, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[TaskState])
	if err != nil {
		return nil, err
	}
	return state.inUTC(), nil
}

// inUTC makes the times what they are when they come from Redis.
func (s *TaskState) inUTC() *TaskState {
	s.CreatedAt, s.UpdatedAt = s.CreatedAt.UTC(), s.UpdatedAt.UTC()
	return s
}

func (s *TaskState) executionType() string {
	if s.ExecutionType == "" {
		return "basic"
	}
	return s.ExecutionType
}

func fail(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	return fmt.Errorf("pgstate: %s: %w", doing, err)
}
