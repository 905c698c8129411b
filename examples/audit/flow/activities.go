package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/examples/audit/screen"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/examples/audit/tools"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
)

// Registered names of the activities.
const (
	loadPlan      = "audit.LoadPlan"
	runTool       = "audit.RunTool"
	routeTask     = "audit.Route"
	expandTask    = "audit.Expand"
	aggregateTask = "audit.Aggregate"
)

// maxOutput bounds what one activity adds to history, in bytes.
const maxOutput = 128 << 10

// Args is what an activity gets besides its config: the outcomes of the tasks
// that its templates name.
type Args struct {
	Tasks map[string]Outcome `json:"tasks,omitempty"`
}

// values decodes the outcomes for templates.
func (a Args) values() (map[string]any, error) {
	data, err := json.Marshal(a.Tasks)
	if err != nil {
		return nil, err
	}
	v, err := spec.DecodeValue(data)
	if err != nil {
		return nil, err
	}
	tasks, _ := v.(map[string]any)
	return tasks, nil
}

// Output is what a tool returned.
type Output struct {
	JSON json.RawMessage `json:"output"`
}

// Route is where a router leads, and the value that decided.
type Route struct {
	Value json.RawMessage `json:"value"`
	Next  string          `json:"next"`
}

// Register puts the workflow and its activities on a worker.
func Register(w worker.Registry, box tools.Box) {
	w.RegisterWorkflowWithOptions(Workflow, workflow.RegisterOptions{Name: WorkflowName})
	a := runner{tools: box}
	for name, fn := range map[string]any{
		loadPlan: a.load, runTool: a.run, routeTask: a.route,
		expandTask: a.expand, aggregateTask: a.aggregate,
	} {
		w.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
}

// runner holds what activities need.
type runner struct{ tools tools.Box }

// load hands the plan to the workflow.
func (runner) load(ctx context.Context) (*Plan, error) {
	plan, err := activities.Config[Plan](ctx)
	if err == nil && len(plan.Steps) == 0 {
		err = unusable(errors.New("the plan has no steps"))
	}
	return plan, err
}

// run runs the tool of a basic task.
func (a runner) run(ctx context.Context, args Args) (Output, error) {
	task, _, err := begin(ctx, args)
	if err != nil {
		return Output{}, err
	}
	call := tools.Call{WorkflowID: activity.GetInfo(ctx).WorkflowExecution.ID, With: task.With}
	if lease, ok := locking.FromContext(ctx); ok {
		call.Fence = lease.Fence()
	}
	out, err := a.tools.Run(ctx, task.Tool.ID, call)
	switch {
	case errors.Is(err, tools.ErrInput):
		return Output{}, unusable(err)
	case err != nil:
		return Output{}, err
	}
	return output(out)
}

// route picks the next task.
func (runner) route(ctx context.Context, args Args) (Route, error) {
	task, values, err := begin(ctx, args)
	if err != nil {
		return Route{}, err
	}
	value, err := spec.RenderText(task.Condition, task.Scope(values))
	if err != nil {
		return Route{}, unusable(fmt.Errorf("condition: %w", err))
	}
	next, ok := task.Routes[value]
	if !ok {
		next, ok = task.Routes["default"]
	}
	if !ok {
		return Route{}, unusable(fmt.Errorf("no route for %.40q, and no default", value))
	}
	data, err := json.Marshal(value)
	if err != nil {
		return Route{}, err
	}
	return Route{Value: data, Next: next}, say(ctx, fmt.Sprintf("%.40s -> %s", value, next))
}

// expand makes the configs of a task's children and saves them: they enter the
// store here, and history gets their refs.
func (runner) expand(ctx context.Context, args Args) ([]Step, error) {
	task, values, err := begin(ctx, args)
	if err != nil {
		return nil, err
	}
	children, err := task.Children(values)
	if err != nil {
		return nil, unusable(err)
	}
	entries, err := entriesOf(activity.GetInfo(ctx).WorkflowExecution.ID, pointers(children))
	if err != nil {
		return nil, unusable(err)
	}
	steps := make([]Step, len(children))
	if len(children) > 0 {
		refs, err := activities.SaveConfigs(ctx, entries...)
		if err != nil {
			return nil, saveError(err)
		}
		for i := range children {
			steps[i] = stepOf(&children[i], refs[i], size(entries[i]))
			steps[i].Needs = nil
		}
	}
	return steps, say(ctx, fmt.Sprintf("%d children", len(children)))
}

// aggregate collects the outputs of tasks and adds up what is in their lists.
func (runner) aggregate(ctx context.Context, args Args) (Output, error) {
	task, values, err := begin(ctx, args)
	if err != nil {
		return Output{}, err
	}
	out := map[string]any{}
	for _, id := range task.Collect {
		done, ok := values[id].(map[string]any)
		if !ok {
			return Output{}, unusable(fmt.Errorf("collect: %s has not run", id))
		}
		out[id] = sum(done["output"])
	}
	return output(out)
}

// begin reads the config, replaces its templates and says what the task is
// about.
func begin(ctx context.Context, args Args) (*spec.Task, map[string]any, error) {
	config, err := activities.Config[spec.Task](ctx)
	if err != nil {
		return nil, nil, err
	}
	values, err := args.values()
	if err != nil {
		return nil, nil, unusable(err)
	}
	task, err := config.Resolve(values)
	if err != nil {
		return nil, nil, unusable(err)
	}
	if task.Description == "" {
		return task, values, nil
	}
	return task, values, say(ctx, task.Description)
}

// say publishes a note for the screen.
func say(ctx context.Context, text string) error {
	return activities.Progress(ctx, screen.Note{Text: fmt.Sprintf("%.200s", text)})
}

// output encodes what a task gives and bounds it.
func output(v any) (Output, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Output{}, unusable(fmt.Errorf("output: %w", err))
	}
	if len(data) > maxOutput {
		return Output{}, unusable(fmt.Errorf("the output is %d bytes, over the limit of %d; write it to a file and return its name", len(data), maxOutput))
	}
	return Output{JSON: data}, nil
}

// unusable is an error that another attempt would meet again.
func unusable(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), "Unusable", err)
}

// saveError leaves outages to the plugin and ends what no attempt can mend.
func saveError(err error) error {
	if errors.Is(err, redisstate.ErrTooLarge) || errors.Is(err, redisstate.ErrInvalidKey) {
		return unusable(err)
	}
	return err
}
