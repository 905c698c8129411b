package pgstate

import (
	"context"
	_ "embed" // schema.sql
	"encoding/json"
	"errors"
	"time"
)

// Schema makes the tables, if they are not there.
//
//go:embed schema.sql
var Schema string

// Repository keeps states of workflows and tasks. It is safe for concurrent use,
// except one that WithTransaction gives, which is for one goroutine, as its
// transaction is.
type Repository interface {
	// GetState gives a workflow with its tasks. Its JSON is that of the database in
	// value, not byte by byte, and may be shared: replace it, do not write into it.
	// Errors: ErrNotFound.
	GetState(ctx context.Context, workflowExecID string) (*WorkflowState, error)
	// UpsertState writes the row of a workflow, all of it but its times. Tasks are
	// left alone.
	UpsertState(ctx context.Context, state *WorkflowState) error
	// UpdateStatus writes the status of a workflow. Errors: ErrNotFound.
	UpdateStatus(ctx context.Context, workflowExecID string, status Status) error
	// SaveStateWithLocking locks the row of a workflow, lets update change it, and
	// writes it. Tasks are neither read nor written. Errors: ErrNotFound, and that
	// of update, after which nothing is written.
	SaveStateWithLocking(ctx context.Context, workflowExecID string, update func(*WorkflowState) error) error
	// UpsertTask writes the row of a task, all of it but its times.
	UpsertTask(ctx context.Context, task *TaskState) error
	// SaveTaskWithLocking is SaveStateWithLocking for a task.
	SaveTaskWithLocking(ctx context.Context, taskExecID string, update func(*TaskState) error) error
	// DeleteTask removes a task and its children, if it is there.
	DeleteTask(ctx context.Context, taskExecID string) error
	// WithTransaction calls fn with a repository that works in a transaction, and
	// commits. After an error of fn, which it returns as it is, or a panic, it
	// rolls back. In a transaction it makes a savepoint: what an inner fn did is
	// undone alone. fn must use tx, not the repository around it: that one sees
	// nothing of the transaction and may wait for its locks. Errors wrap
	// redisstate.ErrRolledBack or ErrCommitUnknown if the commit failed.
	WithTransaction(ctx context.Context, fn func(ctx context.Context, tx Repository) error) error
}

var (
	// ErrNotFound says that there is no such workflow or task.
	ErrNotFound = errors.New("pgstate: no such state")
	// ErrCommitUnknown says that the connection was lost in COMMIT: the transaction
	// may be committed, now or a little later.
	ErrCommitUnknown = errors.New("pgstate: it is not known whether the transaction was committed")
)

// Status is that of a workflow or a task.
type Status string

// The statuses.
const (
	StatusPending  Status = "PENDING"
	StatusRunning  Status = "RUNNING"
	StatusSuccess  Status = "SUCCESS"
	StatusFailed   Status = "FAILED"
	StatusTimedOut Status = "TIMED_OUT"
	StatusCanceled Status = "CANCELED"
	StatusWaiting  Status = "WAITING"
	StatusPaused   Status = "PAUSED"
)

// WorkflowState is a row of workflow_states, with its tasks where GetState gives
// it. Times are those of the database, which sets them.
type WorkflowState struct {
	WorkflowExecID string          `db:"workflow_exec_id" json:"workflow_exec_id"`
	WorkflowID     string          `db:"workflow_id" json:"workflow_id"`
	Status         Status          `db:"status" json:"status"`
	Usage          json.RawMessage `db:"usage" json:"usage,omitempty"`
	Input          json.RawMessage `db:"input" json:"input,omitempty"`
	Output         json.RawMessage `db:"output" json:"output,omitempty"`
	Error          json.RawMessage `db:"error" json:"error,omitempty"`
	CreatedAt      time.Time       `db:"created_at" json:"created_at"`
	UpdatedAt      time.Time       `db:"updated_at" json:"updated_at"`

	// Tasks by their TaskExecID.
	Tasks map[string]*TaskState `db:"-" json:"-"`
}

// TaskState is a row of task_states.
type TaskState struct {
	TaskExecID     string          `db:"task_exec_id" json:"task_exec_id"`
	TaskID         string          `db:"task_id" json:"task_id"`
	WorkflowExecID string          `db:"workflow_exec_id" json:"workflow_exec_id"`
	WorkflowID     string          `db:"workflow_id" json:"workflow_id"`
	Component      string          `db:"component" json:"component"`
	Status         Status          `db:"status" json:"status"`
	ExecutionType  string          `db:"execution_type" json:"execution_type"`
	Usage          json.RawMessage `db:"usage" json:"usage,omitempty"`
	AgentID        *string         `db:"agent_id" json:"agent_id,omitempty"`
	ToolID         *string         `db:"tool_id" json:"tool_id,omitempty"`
	ActionID       *string         `db:"action_id" json:"action_id,omitempty"`
	ParentStateID  *string         `db:"parent_state_id" json:"parent_state_id,omitempty"`
	Input          json.RawMessage `db:"input" json:"input,omitempty"`
	Output         json.RawMessage `db:"output" json:"output,omitempty"`
	Error          json.RawMessage `db:"error" json:"error,omitempty"`
	CreatedAt      time.Time       `db:"created_at" json:"created_at"`
	UpdatedAt      time.Time       `db:"updated_at" json:"updated_at"`
}
