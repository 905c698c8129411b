package spec

import (
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
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

var types = []string{string(Basic), string(Router), string(Parallel), string(Collection), string(Aggregate)}

// Workflow is a workflow file: as it was written after Load, checked and
// complete after Normalize.
type Workflow struct {
	ID          string            `yaml:"id"`
	Description string            `yaml:"description"`
	With        map[string]any    `yaml:"with"` // inputs, seen by templates as .with
	Env         map[string]string `yaml:"env"`  // seen by templates as .env, inherited by tasks
	Tasks       []Task            `yaml:"tasks"`

	file string
	root yaml.Node
}

// Task is one task config, the document that is kept in the config store.
// Read-only once stored: all readers of a process share one.
//
// The tag of names the types of task that a field is for (without it, all);
// need is on fields that these types cannot do without.
type Task struct {
	ID          string            `yaml:"id" json:"id"`
	Type        Type              `yaml:"type" json:"type"`
	Description string            `yaml:"description" json:"description,omitempty"`
	Env         map[string]string `yaml:"env" json:"env,omitempty"` // the workflow's, then the task's own
	OnSuccess   Edge              `yaml:"on_success" json:"on_success,omitzero" of:"basic parallel collection aggregate"`
	OnError     Edge              `yaml:"on_error" json:"on_error,omitzero"`
	Timeout     time.Duration     `yaml:"timeout" json:"timeout"` // of one attempt. Defaults to 5m.
	Retry       Retry             `yaml:"retry" json:"retry"`

	Tool     Tool           `yaml:"tool" json:"tool,omitzero" of:"basic"`
	With     map[string]any `yaml:"with" json:"with,omitempty" of:"basic"`
	Critical bool           `yaml:"critical" json:"critical,omitempty" of:"basic"` // under the workflow's lock

	Condition string            `yaml:"condition" json:"condition,omitempty" of:"router" need:"true"`
	Routes    map[string]string `yaml:"routes" json:"routes,omitempty" of:"router" need:"true"` // value -> task id, "default" for the rest

	Tasks      []Task `yaml:"tasks" json:"tasks,omitempty" of:"parallel" need:"true"`
	Items      any    `yaml:"items" json:"items,omitempty" of:"collection" need:"true"`          // a list, or a template that gives one
	Task       *Task  `yaml:"task" json:"task,omitempty" of:"collection" need:"true"`            // run for each item
	MaxWorkers int    `yaml:"max_workers" json:"max_workers,omitempty" of:"parallel collection"` // Defaults to 8.

	Collect []string `yaml:"collect" json:"collect,omitempty" of:"aggregate" need:"true"` // tasks whose outputs are taken

	// What Normalize and Children add.
	Inputs   map[string]any `yaml:"-" json:"inputs,omitempty"`   // the workflow's with
	Rendered bool           `yaml:"-" json:"rendered,omitempty"` // with holds values, no templates any more
}

// Tool names what a basic task runs.
type Tool struct {
	ID string `yaml:"id" json:"id"`
}

// Edge leads to the next task; without one the workflow ends there.
type Edge struct {
	Next string `yaml:"next" json:"next"`
}

// Retry is what a file may say of Temporal's retry policy.
type Retry struct {
	MaxAttempts     int           `yaml:"max_attempts" json:"max_attempts"`         // Defaults to 3.
	InitialInterval time.Duration `yaml:"initial_interval" json:"initial_interval"` // Doubles with each attempt. Defaults to 1s.
}

// fieldsOf lists the fields that a file may give to a struct of this package.
func fieldsOf(name string) (fields []string) {
	for _, v := range []any{Workflow{}, Task{}, Tool{}, Edge{}, Retry{}} {
		typ := reflect.TypeOf(v)
		for f := range typ.Fields() {
			if tag := f.Tag.Get("yaml"); typ.Name() == name && tag != "" && tag != "-" {
				fields = append(fields, tag)
			}
		}
	}
	slices.Sort(fields)
	return fields
}
