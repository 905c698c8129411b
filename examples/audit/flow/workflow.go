package flow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/interceptors"
)

// WorkflowName is the registered name of Workflow.
const WorkflowName = "audit.Workflow"

// Outcome is how a task ended, as templates see it under .tasks.<id>.
type Outcome struct {
	Output json.RawMessage `json:"output,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Result is what the workflow returns: how much it did.
type Result struct {
	Tasks       int `json:"tasks"`        // activities scheduled, one per task and one for the plan
	Configs     int `json:"configs"`      // kept in the store, the plan included
	ConfigBytes int `json:"config_bytes"` // that the activities read by ref; without refs they were in history
	RefBytes    int `json:"ref_bytes"`    // that were in history instead
}

// Workflow walks the plan from its first step. It is deterministic: it ranges
// over slices only, and everything from outside comes from activities.
func Workflow(ctx workflow.Context, in Input) (Result, error) {
	r := &walk{outcomes: map[string]Outcome{}}
	load := Step{ID: planName, Ref: in.Plan, Bytes: in.Bytes, Timeout: time.Minute}
	var plan Plan
	if err := r.activity(ctx, load, planActivity, Args{}).Get(ctx, &plan); err != nil {
		return r.result, failed(load, err)
	}
	r.result.Configs = 1 + len(plan.Steps)
	for id := plan.Steps[0].ID; id != ""; {
		next, err := r.step(ctx, plan.step(id))
		if err != nil {
			return r.result, err
		}
		id = next
	}
	return r.result, nil
}

// walk is the state of one run.
type walk struct {
	outcomes map[string]Outcome
	result   Result
}

// step runs one task to its end and says which comes next.
func (r *walk) step(ctx workflow.Context, s Step) (next string, err error) {
	output, next, err := r.run(ctx, s)
	switch {
	case err == nil:
		r.outcomes[s.ID] = Outcome{Output: output}
		return next, nil
	case s.OnError == "" || ctx.Err() != nil:
		return "", failed(s, err)
	}
	r.outcomes[s.ID] = Outcome{Error: reason(err)}
	return s.OnError, nil
}

func (r *walk) run(ctx workflow.Context, s Step) (output json.RawMessage, next string, err error) {
	args := Args{Task: s.ID, Tasks: map[string]Outcome{}}
	for _, id := range s.Needs {
		args.Tasks[id] = r.outcomes[id]
	}
	var done Done
	if err := r.activity(ctx, s, taskActivity, args).Get(ctx, &done); err != nil {
		return nil, "", err
	}
	if s.Type != spec.Parallel && s.Type != spec.Collection {
		return done.Output, cmp.Or(done.Next, s.Next), nil
	}
	r.result.Configs += len(done.Children)
	outputs, err := r.fanOut(ctx, s.MaxWorkers, done.Children)
	return gather(s.Type, done.Children, outputs), s.Next, err
}

// fanOut runs children, at most limit at a time, and returns their outputs in
// order. All of them end before the first failure is told.
func (r *walk) fanOut(ctx workflow.Context, limit int, kids []Step) ([]Done, error) {
	var (
		outputs = make([]Done, len(kids))
		slots   = workflow.NewSemaphore(ctx, int64(limit))
		running = workflow.NewWaitGroup(ctx)
		first   error
	)
	for i, kid := range kids {
		if err := slots.Acquire(ctx, 1); err != nil {
			first = err // cancelled
			break
		}
		running.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer running.Done()
			defer slots.Release(1)
			if err := r.activity(ctx, kid, taskActivity, Args{Task: kid.ID}).Get(ctx, &outputs[i]); err != nil && first == nil {
				first = failed(kid, err)
			}
		})
	}
	running.Wait(ctx)
	return outputs, first
}

// gather makes one output of the children's: a list for a collection, a mapping
// by child id for a parallel task. It joins JSON that is JSON already; ids need
// no escaping, and encoding/json is not for workflow code.
func gather(t spec.Type, kids []Step, outputs []Done) json.RawMessage {
	parts := make([]string, len(kids))
	for i, kid := range kids {
		parts[i] = string(outputs[i].Output)
		if t == spec.Parallel {
			parts[i] = fmt.Sprintf("%q:%s", kid.ID, parts[i])
		}
	}
	all := strings.Join(parts, ",")
	if t == spec.Parallel {
		return json.RawMessage("{" + all + "}")
	}
	return json.RawMessage(fmt.Sprintf(`{"items":[%s],"count":%d}`, all, len(kids)))
}

// activity schedules one activity for a task. Only a ref and outputs go along.
func (r *walk) activity(ctx workflow.Context, s Step, name string, args Args) workflow.Future {
	r.result.Tasks++
	r.result.ConfigBytes += s.Bytes
	r.result.RefBytes += len(`{"id":"","digest":""}`) + len(s.Ref.ID) + len(s.Ref.Digest)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: s.Timeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: s.Retry.InitialInterval,
			MaximumAttempts: int32(s.Retry.MaxAttempts),
		},
	})
	ctx = interceptors.WithConfig(interceptors.WithTask(ctx, s.ID), s.Ref)
	if s.Critical {
		ctx = interceptors.WithPolicy(ctx, interceptors.Critical)
	}
	return workflow.ExecuteActivity(ctx, name, args)
}

// failed says which task ended the workflow, and why.
func failed(s Step, err error) error {
	if temporal.IsCanceledError(err) {
		return err
	}
	return temporal.NewApplicationErrorWithCause(fmt.Sprintf("task %s: %s", s.ID, reason(err)), "TaskFailed", err)
}

// reason is the innermost text that says what happened.
func reason(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Message()
	}
	if timeout, ok := errors.AsType[*temporal.TimeoutError](err); ok {
		return "timed out (" + timeout.TimeoutType().String() + ")"
	}
	return err.Error()
}
