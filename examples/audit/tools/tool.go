package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// ErrInput marks an error that the same call would meet again: a with that the
// tool cannot use, or a tree that is not what the tool needs.
var ErrInput = errors.New("unusable input")

// Call is what a tool is run with.
type Call struct {
	WorkflowID string         // Temporal's id of the running workflow
	Fence      uint64         // of the workflow's lock, 0 without a lock
	With       map[string]any // the task's with, templates replaced
}

// tool is one built-in: the fields it reads, and what it does.
type tool struct {
	params []string
	run    func(ctx context.Context, call Call) (any, error)
}

// define makes a tool of a function over a typed input. The json tags of In
// are the fields of with.
func define[In any](run func(context.Context, Call, In) (any, error)) tool {
	var t tool
	for field := range reflect.TypeFor[In]().Fields() {
		t.params = append(t.params, field.Tag.Get("json"))
	}
	t.run = func(ctx context.Context, call Call) (any, error) {
		var in In
		with, err := json.Marshal(call.With)
		if err == nil {
			dec := json.NewDecoder(bytes.NewReader(with))
			dec.DisallowUnknownFields()
			err = dec.Decode(&in)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: with: %w", ErrInput, err)
		}
		return run(ctx, call, in)
	}
	return t
}

// builtIn are the tools there are.
var builtIn = map[string]tool{
	"list_packages":   define(listPackages),
	"inspect_package": define(inspectPackage),
	"ledger_append":   define(ledgerAppend),
	"write_report":    define(writeReport),
}

// Names lists the tools, sorted.
func Names() []string { return slices.Sorted(maps.Keys(builtIn)) }

// Params lists the fields that a tool reads from with; it needs all of them.
func Params(name string) (fields []string, ok bool) {
	t, ok := builtIn[name]
	return t.params, ok
}

// Run runs a tool. Its output has a JSON form.
func Run(ctx context.Context, name string, call Call) (any, error) {
	t, ok := builtIn[name]
	if !ok {
		return nil, fmt.Errorf("%w: this worker has no tool %q", ErrInput, name)
	}
	out, err := t.run(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}
