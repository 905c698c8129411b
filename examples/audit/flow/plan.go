package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/redisstate"
)

// Input is all that the workflow is started with.
type Input struct {
	Plan  redisstate.Ref `json:"plan"`
	Bytes int            `json:"bytes"` // of the plan's JSON
}

// Plan is the shape of a workflow: which tasks there are and what leads where.
// What they do stays in their configs.
type Plan struct {
	ID    string `json:"id"`
	Steps []Step `json:"steps"` // the first is the start
}

// Step is what the workflow must know of a task to schedule it.
type Step struct {
	ID         string         `json:"id"`
	Type       spec.Type      `json:"type"`
	Ref        redisstate.Ref `json:"ref"`
	Bytes      int            `json:"bytes"` // of the config's JSON
	Next       string         `json:"next,omitempty"`
	OnError    string         `json:"on_error,omitempty"`
	Critical   bool           `json:"critical,omitempty"`
	FailFast   bool           `json:"fail_fast,omitempty"`
	MaxWorkers int            `json:"max_workers,omitempty"`
	Needs      []string       `json:"needs,omitempty"` // tasks whose outputs it reads
	Timeout    spec.Duration  `json:"timeout"`
	Retry      spec.Retry     `json:"retry"`
}

func stepOf(t *spec.Task, ref redisstate.Ref, bytes int) Step {
	return Step{
		ID: t.ID, Type: t.Type, Ref: ref, Bytes: bytes, Next: t.Next(), OnError: t.Fallback(),
		Critical: t.Critical, FailFast: t.Strategy == spec.FailFast, MaxWorkers: t.MaxWorkers,
		Needs: t.Needs(), Timeout: t.Timeout, Retry: *t.Retry,
	}
}

func (p *Plan) step(id string) (Step, bool) {
	for _, s := range p.Steps {
		if s.ID == id {
			return s, true
		}
	}
	return Step{}, false
}

// configID names a task's config: the run comes first, so that two runs of one
// workflow file never share.
func configID(workflowID, taskID string) string { return workflowID + "/" + taskID }

// planName cannot be the id of a task.
const planName = "(plan)"

// Save puts the workflow's configs into the store, before its start, and
// returns what to start it with. If that fails, nothing stays behind as far as
// the store can still be reached.
func Save(ctx context.Context, store redisstate.ConfigStore, workflowID string, w *spec.Workflow) (Input, error) {
	entries, err := entriesOf(workflowID, pointers(w.Tasks))
	if err != nil {
		return Input{}, err
	}
	refs, err := store.Set(ctx, entries...)
	if err != nil {
		return Input{}, errors.Join(err, discard(ctx, store, entries))
	}
	plan := Plan{ID: w.ID}
	for i := range w.Tasks {
		plan.Steps = append(plan.Steps, stepOf(&w.Tasks[i], refs[i], size(entries[i])))
	}
	data, err := json.Marshal(plan)
	if err != nil {
		return Input{}, errors.Join(err, discard(ctx, store, entries))
	}
	entry := redisstate.Entry{ID: configID(workflowID, planName), Workflow: workflowID, Value: json.RawMessage(data)}
	refs, err = store.Set(ctx, entry)
	if err != nil {
		return Input{}, errors.Join(err, discard(ctx, store, append(entries, entry)))
	}
	return Input{Plan: refs[0], Bytes: len(data)}, nil
}

// Discard takes back what Save saved, for a workflow that was not started.
func Discard(ctx context.Context, store redisstate.ConfigStore, workflowID string, w *spec.Workflow) error {
	entries := []redisstate.Entry{{ID: configID(workflowID, planName)}}
	for i := range w.Tasks {
		entries = append(entries, redisstate.Entry{ID: configID(workflowID, w.Tasks[i].ID)})
	}
	return discard(ctx, store, entries)
}

func discard(ctx context.Context, store redisstate.ConfigStore, entries []redisstate.Entry) error {
	keys := make([]redisstate.Key, len(entries))
	for i, e := range entries {
		keys[i] = redisstate.ID(e.ID)
	}
	_, err := store.Delete(ctx, keys...)
	return err
}

func pointers(tasks []spec.Task) []*spec.Task {
	out := make([]*spec.Task, len(tasks))
	for i := range tasks {
		out[i] = &tasks[i]
	}
	return out
}

func entriesOf(workflowID string, tasks []*spec.Task) ([]redisstate.Entry, error) {
	entries := make([]redisstate.Entry, len(tasks))
	for i, t := range tasks {
		data, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("config of task %q: %w", t.ID, err)
		}
		entries[i] = redisstate.Entry{ID: configID(workflowID, t.ID), Workflow: workflowID, Value: json.RawMessage(data)}
	}
	return entries, nil
}

func size(e redisstate.Entry) int {
	data, _ := e.Value.(json.RawMessage)
	return len(data)
}
