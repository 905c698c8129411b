package flow

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

// WorkflowName is the registered name of Workflow.
const WorkflowName = "audit.Workflow"

// Outcome is how a task ended, as templates see it under .tasks.<id>.
type Outcome struct {
	Output any    `json:"output,omitempty"` // a json.RawMessage, or gathered ones
	Error  string `json:"error,omitempty"`
}

// gathered is the output of a collection.
type gathered struct {
	Items []any `json:"items"`
	Count int   `json:"count"`
}

// Result is what the workflow returns: how much it did.
type Result struct {
	Tasks       int `json:"tasks"`        // activities scheduled for tasks, children included
	Configs     int `json:"configs"`      // kept in the store, the plan included
	ConfigBytes int `json:"config_bytes"` // that the activities read by ref; without refs they were in history
	RefBytes    int `json:"ref_bytes"`    // that were in history instead
}

// Workflow walks the plan from its first step. It is deterministic: it ranges
// over slices only, and everything from outside comes from activities.
func Workflow(ctx workflow.Context, in Input) (Result, error) {
	r := &walk{outcomes: map[string]Outcome{}, result: Result{Configs: 1}}
	load := Step{ID: planName, Ref: in.Plan, Bytes: in.Bytes, Timeout: spec.Duration(time.Minute), Retry: spec.Retry{Backoff: 2, MaxAttempts: 5}}
	var plan Plan
	if err := r.activity(ctx, load, loadPlan).Get(ctx, &plan); err != nil {
		return r.result, failed(load, err)
	}
	r.result.Configs += len(plan.Steps)
	for i, id := 0, plan.Steps[0].ID; id != ""; i++ {
		step, ok := plan.step(id)
		if !ok || i > len(plan.Steps) {
			return r.result, temporal.NewNonRetryableApplicationError(fmt.Sprintf("the plan has no way on at %q", id), "PlanBroken", nil)
		}
		next, err := r.step(ctx, step)
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
	outcome, next, err := r.run(ctx, s)
	switch {
	case err == nil:
		r.outcomes[s.ID] = outcome
		return next, nil
	case temporal.IsCanceledError(err) || ctx.Err() != nil:
		return "", err
	case s.OnError != "":
		r.outcomes[s.ID] = Outcome{Error: reason(err)}
		return s.OnError, nil
	}
	return "", failed(s, err)
}

func (r *walk) run(ctx workflow.Context, s Step) (Outcome, string, error) {
	switch s.Type {
	case spec.Router:
		var route Route
		err := r.activity(ctx, s, routeTask, r.args(s)).Get(ctx, &route)
		return Outcome{Output: route.Value}, route.Next, err
	case spec.Parallel, spec.Collection:
		var kids []Step
		if err := r.activity(ctx, s, expandTask, r.args(s)).Get(ctx, &kids); err != nil {
			return Outcome{}, "", err
		}
		r.result.Configs += len(kids)
		outputs, err := r.fanOut(ctx, s, kids)
		return Outcome{Output: gather(s, kids, outputs)}, s.Next, err
	case spec.Aggregate:
		var out Output
		err := r.activity(ctx, s, aggregateTask, r.args(s)).Get(ctx, &out)
		return Outcome{Output: out.JSON}, s.Next, err
	default:
		var out Output
		err := r.activity(ctx, s, runTool, r.args(s)).Get(ctx, &out)
		return Outcome{Output: out.JSON}, s.Next, err
	}
}

// fanOut runs the children, at most MaxWorkers at a time, and returns their
// outputs in order. The first failure decides; with fail_fast it also cancels
// the others.
func (r *walk) fanOut(ctx workflow.Context, s Step, kids []Step) ([]Output, error) {
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	var (
		outputs = make([]Output, len(kids))
		slots   = workflow.NewSemaphore(ctx, int64(s.MaxWorkers))
		running = workflow.NewWaitGroup(ctx)
		first   error
	)
	for i, kid := range kids {
		if err := slots.Acquire(ctx, 1); err != nil {
			break // cancelled
		}
		running.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer running.Done()
			defer slots.Release(1)
			err := r.activity(ctx, kid, runTool, Args{}).Get(ctx, &outputs[i])
			if err == nil || first != nil {
				return
			}
			first = failed(kid, err)
			if s.FailFast {
				cancel()
			}
		})
	}
	running.Wait(ctx)
	if first == nil {
		first = ctx.Err()
	}
	return outputs, first
}

// gather makes one output of the children's: a list for a collection, a mapping
// by child id for a parallel task.
func gather(s Step, kids []Step, outputs []Output) any {
	if s.Type == spec.Parallel {
		byID := make(map[string]any, len(kids))
		for i, kid := range kids {
			byID[kid.ID] = outputs[i].JSON
		}
		return byID
	}
	items := make([]any, len(outputs))
	for i, out := range outputs {
		items[i] = out.JSON
	}
	return gathered{Items: items, Count: len(items)}
}

// activity schedules one activity for a task. Only refs and outputs go along.
func (r *walk) activity(ctx workflow.Context, s Step, name string, args ...any) workflow.Future {
	r.result.Tasks++
	r.result.ConfigBytes += s.Bytes
	r.result.RefBytes += refBytes(s.Ref)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Duration(s.Timeout),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Duration(s.Retry.InitialInterval),
			BackoffCoefficient: s.Retry.Backoff,
			MaximumInterval:    time.Duration(s.Retry.MaxInterval),
			MaximumAttempts:    int32(s.Retry.MaxAttempts),
		},
	})
	ctx = interceptors.WithConfig(interceptors.WithTask(ctx, s.ID), s.Ref)
	if s.Critical {
		ctx = interceptors.WithPolicy(ctx, interceptors.Critical)
	}
	return workflow.ExecuteActivity(ctx, name, args...)
}

// refBytes is what a ref takes in a header: {"id":...,"digest":...}.
func refBytes(ref redisstate.Ref) int {
	return len(`{"id":"","digest":""}`) + len(ref.ID) + len(ref.Digest)
}

// args picks the outcomes that the task's templates name.
func (r *walk) args(s Step) Args {
	args := Args{Tasks: map[string]Outcome{}}
	for _, id := range s.Needs {
		if outcome, ok := r.outcomes[id]; ok {
			args.Tasks[id] = outcome
		}
	}
	return args
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
