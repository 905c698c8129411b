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
	steps, err := save(workflowID, w.Tasks, func(entries ...redisstate.Entry) ([]redisstate.Ref, error) {
		return store.Set(ctx, entries...)
	})
	if err != nil {
		return Input{}, errors.Join(err, Discard(ctx, store, workflowID, w))
	}
	plan, err := entry(workflowID, planName, Plan{Steps: steps})
	if err != nil {
		return Input{}, err
	}
	refs, err := store.Set(ctx, plan)
	if err != nil {
		return Input{}, errors.Join(err, Discard(ctx, store, workflowID, w))
	}
	return Input{Plan: refs[0], Bytes: size(plan)}, nil
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

// save hands the configs of tasks to set and makes their steps.
func save(workflowID string, tasks []spec.Task, set func(...redisstate.Entry) ([]redisstate.Ref, error)) ([]Step, error) {
	entries := make([]redisstate.Entry, len(tasks))
	for i := range tasks {
		var err error
		if entries[i], err = entry(workflowID, tasks[i].ID, tasks[i]); err != nil {
			return nil, err
		}
	}
	if len(entries) == 0 {
		return []Step{}, nil
	}
	refs, err := set(entries...)
	if err != nil {
		return nil, err
	}
	steps := make([]Step, len(tasks))
	for i, t := range tasks {
		steps[i] = Step{
			ID: t.ID, Type: t.Type, Ref: refs[i], Bytes: size(entries[i]), Next: t.OnSuccess.Next, OnError: t.OnError.Next,
			Critical: t.Critical, MaxWorkers: t.MaxWorkers, Needs: t.Needs(), Timeout: t.Timeout, Retry: t.Retry,
		}
	}
	return steps, nil
}

// configID names a task's config: the run comes first, so that two runs of one
// workflow file never share.
func configID(workflowID, taskID string) string { return workflowID + "/" + taskID }

func entry(workflowID, taskID string, config any) (redisstate.Entry, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return redisstate.Entry{}, fmt.Errorf("config of task %q: %w", taskID, err)
	}
	return redisstate.Entry{ID: configID(workflowID, taskID), Workflow: workflowID, Value: json.RawMessage(data)}, nil
}

func size(e redisstate.Entry) int {
	data, _ := e.Value.(json.RawMessage)
	return len(data)
}
