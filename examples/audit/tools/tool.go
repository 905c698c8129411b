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
	"strings"
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
	required, optional []string
	run                func(ctx context.Context, call Call) (any, error)
}

// define makes a tool of a function over a typed input. The json tags of In
// are the fields of with; omitempty or omitzero makes one optional.
func define[In, Out any](run func(context.Context, Call, In) (Out, error)) tool {
	var t tool
	for field := range reflect.TypeFor[In]().Fields() {
		name, option, _ := strings.Cut(field.Tag.Get("json"), ",")
		if option != "" {
			t.optional = append(t.optional, name)
		} else {
			t.required = append(t.required, name)
		}
	}
	t.run = func(ctx context.Context, call Call) (any, error) {
		with, err := json.Marshal(call.With)
		if err != nil {
			return nil, fmt.Errorf("%w: with: %w", ErrInput, err)
		}
		dec := json.NewDecoder(bytes.NewReader(with))
		dec.DisallowUnknownFields()
		var in In
		if err := dec.Decode(&in); err != nil {
			return nil, fmt.Errorf("%w: with: %w", ErrInput, err)
		}
		return run(ctx, call, in)
	}
	return t
}

// Box is the set of built-in tools. It is safe for concurrent use.
type Box struct{ tools map[string]tool }

// BuiltIn returns the tools of the demo.
func BuiltIn() Box {
	return Box{map[string]tool{
		"list_packages":   define(listPackages),
		"inspect_package": define(inspectPackage),
		"file_kinds":      define(fileKinds),
		"find_markers":    define(findMarkers),
		"ledger_append":   define(ledgerAppend),
		"write_report":    define(writeReport),
	}}
}

// Names lists the tools, sorted.
func (b Box) Names() []string { return slices.Sorted(maps.Keys(b.tools)) }

// Params lists the fields that a tool reads from with.
func (b Box) Params(name string) (required, optional []string, ok bool) {
	t, ok := b.tools[name]
	return t.required, t.optional, ok
}

// Run runs a tool. Its output has a JSON form.
func (b Box) Run(ctx context.Context, name string, call Call) (any, error) {
	t, ok := b.tools[name]
	if !ok {
		return nil, fmt.Errorf("%w: there is no tool %q in this worker; it has %s", ErrInput, name, strings.Join(b.Names(), ", "))
	}
	out, err := t.run(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}
