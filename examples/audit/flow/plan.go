package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

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
	Steps []Step `json:"steps"` // the first is the start
}

// step finds a step; Normalize made sure that every edge leads to one.
func (p *Plan) step(id string) Step {
	return p.Steps[slices.IndexFunc(p.Steps, func(s Step) bool { return s.ID == id })]
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
	MaxWorkers int            `json:"max_workers,omitempty"`
	Needs      []string       `json:"needs,omitempty"` // tasks whose outputs it reads
	Timeout    time.Duration  `json:"timeout"`
	Retry      spec.Retry     `json:"retry"`
}

// planName cannot be the id of a task.
const planName = "(plan)"

// Save puts the workflow's configs into the store, before its start, and
// returns what to start it with. If that fails, nothing stays behind as far as
// the store can still be reached.
func Save(ctx context.Context, store redisstate.ConfigStore, workflowID string, w *spec.Workflow) (Input, error) {
	entries, in, err := configs(workflowID, w)
	if err != nil {
		return Input{}, err
	}
	if _, err := store.Set(ctx, entries...); err != nil {
		return Input{}, errors.Join(err, Discard(ctx, store, workflowID, w))
	}
	return in, nil
}

// Discard takes back what Save saved, for a workflow that was not started.
func Discard(ctx context.Context, store redisstate.ConfigStore, workflowID string, w *spec.Workflow) error {
	keys := []redisstate.Key{redisstate.ID(configID(workflowID, planName))}
	for _, t := range w.Tasks {
		keys = append(keys, redisstate.ID(configID(workflowID, t.ID)))
	}
	_, err := store.Delete(ctx, keys...)
	return err
}

// configs makes all that a workflow starts with: the configs of its tasks and
// the plan.
func configs(workflowID string, w *spec.Workflow) (entries []redisstate.Entry, in Input, err error) {
	entries, steps, err := plan(workflowID, w.Tasks)
	if err != nil {
		return nil, in, err
	}
	entry, ref, err := config(workflowID, planName, Plan{Steps: steps})
	return append(entries, entry), Input{Plan: ref, Bytes: size(entry)}, err
}

// plan makes the configs of tasks and their steps.
func plan(workflowID string, tasks []spec.Task) (entries []redisstate.Entry, steps []Step, err error) {
	for _, t := range tasks {
		entry, ref, err := config(workflowID, t.ID, t)
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, entry)
		steps = append(steps, Step{
			ID: t.ID, Type: t.Type, Ref: ref, Bytes: size(entry), Next: t.OnSuccess.Next, OnError: t.OnError.Next,
			Critical: t.Critical, MaxWorkers: t.MaxWorkers, Needs: t.Needs(), Timeout: t.Timeout, Retry: t.Retry,
		})
	}
	return entries, steps, nil
}

// configID names a task's config: the run comes first, so that two runs of one
// workflow file never share.
func configID(workflowID, taskID string) string { return workflowID + "/" + taskID }

// config makes a config and the ref that it will be saved under.
func config(workflowID, taskID string, v any) (redisstate.Entry, redisstate.Ref, error) {
	e := redisstate.Entry{ID: configID(workflowID, taskID), Workflow: workflowID}
	data, err := json.Marshal(v)
	if err != nil {
		return e, redisstate.Ref{}, fmt.Errorf("config of task %q: %w", taskID, err)
	}
	e.Value = json.RawMessage(data)
	c, err := redisstate.NewConfig(e.ID, e.Workflow, e.Value)
	return e, c.Ref, err
}

func size(e redisstate.Entry) int {
	data, _ := e.Value.(json.RawMessage)
	return len(data)
}
