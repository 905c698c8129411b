package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/examples/audit/tools"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/screen"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
)

// Registered names of the activities.
const (
	planActivity = "audit.Plan"
	taskActivity = "audit.Task"
)

// maxOutput bounds what one activity adds to history, in bytes.
const maxOutput = 128 << 10

// Register puts the workflow and its activities on a worker. Counters count
// what the tools did.
func Register(w worker.Registry, counters *redisstate.Counters) *Attempts {
	r := &runner{counters: counters}
	w.RegisterWorkflowWithOptions(Workflow, workflow.RegisterOptions{Name: WorkflowName})
	w.RegisterActivityWithOptions(r.readPlan, activity.RegisterOptions{Name: planActivity})
	w.RegisterActivityWithOptions(r.runTask, activity.RegisterOptions{Name: taskActivity})
	return &r.attempts
}

// Policies are what the activities need beside what their calls ask for: a task's
// code uses Redis, so while that is away it does not begin, also where its config
// is at hand.
func Policies() map[string]interceptors.Policy {
	return map[string]interceptors.Policy{taskActivity: {Pause: interceptors.On}}
}

// Attempts counts how often the code of an activity was entered. It is safe for
// concurrent use.
type Attempts struct{ entered atomic.Int64 }

// Entered is how often it was.
func (a *Attempts) Entered() int { return int(a.entered.Load()) }

// runner is what the activities need.
type runner struct {
	counters *redisstate.Counters
	attempts Attempts
}

// readPlan hands the plan to the workflow.
func (r *runner) readPlan(ctx context.Context, _ Args) (*Plan, error) {
	r.attempts.entered.Add(1)
	return activities.Config[Plan](ctx)
}

// Args is what an activity gets besides its config.
type Args struct {
	Task  string             `json:"task"`            // that it runs, for those who read the history
	Tasks map[string]Outcome `json:"tasks,omitempty"` // outcomes that its templates name
}

// Done is what an activity gives.
type Done struct {
	Output   json.RawMessage `json:"output,omitempty"`
	Next     string          `json:"next,omitempty"`     // where a router leads
	Children []Step          `json:"children,omitempty"` // what a parallel or collection task is to run
}

// runTask does what the activity's config says.
func (r *runner) runTask(ctx context.Context, args Args) (done Done, err error) {
	r.attempts.entered.Add(1)
	config, err := activities.Config[spec.Task](ctx)
	if err != nil {
		return done, err
	}
	values, err := args.values()
	if err != nil {
		return done, err
	}
	task, err := config.Resolve(values)
	if err != nil {
		return done, unusable(err)
	}
	if err := say(ctx, task.Description); err != nil {
		return done, err
	}
	var output any
	switch task.Type {
	case spec.Router:
		done.Next, output, err = route(task, values)
	case spec.Parallel, spec.Collection:
		done.Children, err = expand(ctx, task, values)
	case spec.Aggregate:
		output, err = aggregate(task, values)
	default:
		output, err = r.runTool(ctx, task)
	}
	if err == nil {
		done.Output, err = json.Marshal(output)
	}
	if err == nil && len(done.Output) > maxOutput {
		err = unusable(fmt.Errorf("the output is %d bytes, over the limit of %d; write it to a file and return its name", len(done.Output), maxOutput))
	}
	return done, err
}

// values decodes the outcomes the way templates see them: numbers keep their
// digits.
func (a Args) values() (values map[string]any, err error) {
	data, err := json.Marshal(a.Tasks)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return values, dec.Decode(&values)
}

// runTool runs the tool of a basic task. Its output is put down in the run's
// session: an attempt whose predecessor did the work, and could not say so any
// more, does not do it again.
func (r *runner) runTool(ctx context.Context, task spec.Task) (any, error) {
	session, err := activities.Session(ctx)
	if err != nil {
		return nil, err
	}
	info := activity.GetInfo(ctx)
	if info.Attempt > 1 {
		var out json.RawMessage
		err := patiently(ctx, func() (err error) {
			out, err = redisstate.SessionGet[json.RawMessage](ctx, session, task.ID)
			return err
		})
		if err == nil || !errors.Is(err, redisstate.ErrNotFound) {
			return out, err
		}
	}
	call := tools.Call{WorkflowID: info.WorkflowExecution.ID, With: task.With}
	if lease, ok := locking.FromContext(ctx); ok {
		call.Fence = lease.Fence()
	}
	out, err := tools.Run(ctx, task.Tool.ID, call)
	if errors.Is(err, tools.ErrInput) {
		return nil, unusable(err)
	}
	if err != nil {
		return nil, err
	}
	err = patiently(ctx, func() error { return session.Set(ctx, task.ID, out) })
	_, _ = r.counters.Incr(ctx, ToolRuns, 1) // a count that is lost is worth no second run
	return out, err
}

// askAgain is the pause before Redis is asked again.
const askAgain = 200 * time.Millisecond

// patiently does what may be done again until Redis is there for it, or ctx ends.
// The plugin keeps an attempt waiting whose code was not entered; from there on
// it is for the code to wait, or the outage uses up the attempt.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, redisstate.ErrUnavailable) {
			return err
		}
		timer := time.NewTimer(askAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// ToolRuns is the counter of tools that were run, by all runs together.
const ToolRuns = "audit_tool_runs"

// route picks the next task by a value.
func route(task spec.Task, values map[string]any) (next, value string, err error) {
	value, err = spec.RenderText(task.Condition, task.Scope(values))
	if err != nil {
		return "", "", unusable(fmt.Errorf("condition: %w", err))
	}
	next, ok := task.Routes[value]
	if !ok {
		next, ok = task.Routes["default"]
	}
	if !ok {
		return "", "", unusable(fmt.Errorf("no route for %.40q, and no default", value))
	}
	return next, value, nil
}

// expand makes the configs of a task's children and saves them: they enter the
// store here, and history gets their refs.
func expand(ctx context.Context, task spec.Task, values map[string]any) ([]Step, error) {
	children, err := task.Children(values)
	if err != nil {
		return nil, unusable(err)
	}
	entries, steps, err := plan(activity.GetInfo(ctx).WorkflowExecution.ID, children)
	if err == nil && len(entries) > 0 {
		err = patiently(ctx, func() error {
			_, err := activities.SaveConfigs(ctx, entries...)
			return err
		})
	}
	if errors.Is(err, redisstate.ErrTooLarge) {
		return nil, unusable(err)
	}
	return steps, err
}

// aggregate collects the outputs of tasks and adds up what is in their lists.
func aggregate(task spec.Task, values map[string]any) (any, error) {
	out := map[string]any{}
	for _, id := range task.Collect {
		outcome, _ := values[id].(map[string]any)
		if outcome["output"] == nil {
			return nil, unusable(fmt.Errorf("collect: %s has no output", id))
		}
		out[id] = sum(outcome["output"])
	}
	return out, nil
}

// sum replaces every list in v by its count and the sums of its elements'
// numbers; everything else stays as it is.
func sum(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, e := range v {
			out[name] = sum(e)
		}
		return out
	case []any:
		sums := map[string]int64{"count": int64(len(v))}
		for _, e := range v {
			fields, _ := e.(map[string]any)
			for name, f := range fields {
				if n, ok := f.(json.Number); ok {
					x, _ := n.Int64()
					sums[name] += x
				}
			}
		}
		return sums
	}
	return v
}

// say publishes a note for the screen.
func say(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	return activities.Progress(ctx, screen.Note{Text: fmt.Sprintf("%.200s", text)})
}

// unusable is an error that another attempt would meet again.
func unusable(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), "Unusable", err)
}
