package spec

import (
	"fmt"
	"time"
)

// Type says how a task is run.
type Type string

// The task types this runtime knows.
const (
	Basic      Type = "basic"      // runs one tool
	Router     Type = "router"     // picks the next task by a value
	Parallel   Type = "parallel"   // runs its children side by side
	Collection Type = "collection" // runs one child per item
	Aggregate  Type = "aggregate"  // collects outputs and adds up their numbers
)

func types() []string {
	return []string{string(Basic), string(Router), string(Parallel), string(Collection), string(Aggregate)}
}

// How a parallel or collection task treats a child that failed.
const (
	WaitAll  = "wait_all"  // the others finish first, then the task fails (default)
	FailFast = "fail_fast" // the others are cancelled
)

// How a collection runs its children.
const (
	InParallel = "parallel"   // up to max_workers at a time (default)
	InSequence = "sequential" // one after the other
)

// Workflow is a workflow file after Load: defaults filled in, checked.
type Workflow struct {
	ID          string            `yaml:"id"`
	Description string            `yaml:"description"`
	With        map[string]any    `yaml:"with"` // inputs, seen by templates as .with
	Env         map[string]string `yaml:"env"`  // seen by templates as .env, inherited by tasks
	Tasks       []Task            `yaml:"tasks"`

	file  string
	lines map[string]int
}

// Task is one normalized task config, the document that is kept in the config
// store. Read-only once stored: all readers of a process share one.
type Task struct {
	ID          string            `yaml:"id" json:"id"`
	Type        Type              `yaml:"type" json:"type"`
	Description string            `yaml:"description" json:"description,omitempty"`
	Tool        *Tool             `yaml:"tool" json:"tool,omitempty"`
	With        map[string]any    `yaml:"with" json:"with,omitempty"`
	Env         map[string]string `yaml:"env" json:"env,omitempty"` // the workflow's, then the task's own
	OnSuccess   *Edge             `yaml:"on_success" json:"on_success,omitempty"`
	OnError     *Edge             `yaml:"on_error" json:"on_error,omitempty"`
	Final       bool              `yaml:"final" json:"final,omitempty"`
	Critical    bool              `yaml:"critical" json:"critical,omitempty"` // under the workflow's lock
	Retry       *Retry            `yaml:"retry" json:"retry,omitempty"`
	Timeout     Duration          `yaml:"timeout" json:"timeout"` // of one attempt. Defaults to 5m.

	Condition string            `yaml:"condition" json:"condition,omitempty"` // router
	Routes    map[string]string `yaml:"routes" json:"routes,omitempty"`       // router: value -> task id, "default" for the rest

	Tasks      []Task `yaml:"tasks" json:"tasks,omitempty"`             // parallel: the children
	Items      any    `yaml:"items" json:"items,omitempty"`             // collection: a list, or a template that gives one
	Task       *Task  `yaml:"task" json:"task,omitempty"`               // collection: the child that is run per item
	Mode       string `yaml:"mode" json:"mode,omitempty"`               // collection. Defaults to parallel.
	Strategy   string `yaml:"strategy" json:"strategy,omitempty"`       // parallel, collection. Defaults to wait_all.
	MaxWorkers int    `yaml:"max_workers" json:"max_workers,omitempty"` // parallel, collection. Defaults to 8.

	Collect []string `yaml:"collect" json:"collect,omitempty"` // aggregate: ids of the tasks whose outputs are taken

	// What normalization adds.
	WorkflowID string         `yaml:"-" json:"workflow_id"`         // the workflow's id in its file
	Inputs     map[string]any `yaml:"-" json:"inputs,omitempty"`    // the workflow's with
	ParentID   string         `yaml:"-" json:"parent_id,omitempty"` // of a child
	Rendered   bool           `yaml:"-" json:"rendered,omitempty"`  // with holds values, no templates any more
}

// Tool names what a basic task runs.
type Tool struct {
	ID string `yaml:"id" json:"id"`
}

// Edge leads to the next task.
type Edge struct {
	Next string `yaml:"next" json:"next"`
}

// Retry is Temporal's retry policy, in the words of the file.
type Retry struct {
	MaxAttempts     int      `yaml:"max_attempts" json:"max_attempts"`         // Defaults to 3.
	InitialInterval Duration `yaml:"initial_interval" json:"initial_interval"` // Defaults to 1s.
	MaxInterval     Duration `yaml:"max_interval" json:"max_interval"`         // Defaults to 1m.
	Backoff         float64  `yaml:"backoff" json:"backoff"`                   // Defaults to 2.
}

// Duration is a time.Duration written as text: 500ms, 30s, 5m.
type Duration time.Duration

// MarshalText writes d the way time.Duration prints.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%s is not a duration", quote(string(text)))
	}
	*d = Duration(v)
	return nil
}

// Next is the task after a success, "" at the end of the workflow.
func (t *Task) Next() string {
	if t.OnSuccess == nil {
		return ""
	}
	return t.OnSuccess.Next
}

// Fallback is the task after a failure, "" if the workflow fails with it.
func (t *Task) Fallback() string {
	if t.OnError == nil {
		return ""
	}
	return t.OnError.Next
}
