package spec

import (
	"fmt"
	"maps"
	"time"
)

// What a task gets if the file does not say. Sources: the activity options of
// Compozy, see the table in this example's README.
const (
	defaultTimeout    = 5 * time.Minute
	defaultAttempts   = 3
	defaultInterval   = time.Second
	defaultMaxWait    = time.Minute
	defaultBackoff    = 2
	defaultMaxWorkers = 8
)

// normalize makes every task config complete in itself: defaults filled in,
// what it inherits from the workflow copied.
func (w *Workflow) normalize() {
	for i := range w.Tasks {
		t := &w.Tasks[i]
		t.Env = merge(w.Env, t.Env)
		w.complete(t)
		for j := range t.Tasks {
			t.Tasks[j].Env = merge(t.Env, t.Tasks[j].Env)
			t.Tasks[j].ParentID = t.ID
			w.complete(&t.Tasks[j])
		}
		if t.Task != nil {
			t.Task.Env = merge(t.Env, t.Task.Env)
			t.Task.ParentID = t.ID
			w.complete(t.Task)
		}
	}
}

func (w *Workflow) complete(t *Task) {
	t.WorkflowID, t.Inputs = w.ID, w.With
	if t.Timeout == 0 {
		t.Timeout = Duration(defaultTimeout)
	}
	if t.Retry == nil {
		t.Retry = &Retry{}
	}
	t.Retry.complete()
	if t.Type == Parallel || t.Type == Collection {
		if t.Strategy == "" {
			t.Strategy = WaitAll
		}
		if t.MaxWorkers == 0 {
			t.MaxWorkers = defaultMaxWorkers
		}
	}
	if t.Type == Collection && t.Mode == "" {
		t.Mode = InParallel
	}
	if t.Mode == InSequence {
		t.MaxWorkers = 1
	}
}

func (r *Retry) complete() {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = defaultAttempts
	}
	if r.InitialInterval == 0 {
		r.InitialInterval = Duration(defaultInterval)
	}
	if r.MaxInterval == 0 {
		r.MaxInterval = max(Duration(defaultMaxWait), r.InitialInterval)
	}
	if r.Backoff == 0 {
		r.Backoff = defaultBackoff
	}
}

// merge returns both, over winning; nil if both are empty.
func merge(base, over map[string]string) map[string]string {
	if len(base)+len(over) == 0 {
		return nil
	}
	out := make(map[string]string, len(base)+len(over))
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}

// Children makes the configs of a parallel or collection task's children:
// complete, with every template of their with replaced by its value. It needs
// what only the running workflow knows, the outputs of earlier tasks.
func (t *Task) Children(tasks map[string]any) ([]Task, error) {
	if t.Type == Parallel {
		out := make([]Task, len(t.Tasks))
		for i, child := range t.Tasks {
			if err := child.render(child.Scope(tasks)); err != nil {
				return nil, fmt.Errorf("%s: %w", child.ID, err)
			}
			out[i] = child
		}
		return out, nil
	}
	items, err := t.items(tasks)
	if err != nil {
		return nil, fmt.Errorf("items: %w", err)
	}
	out := make([]Task, len(items))
	for i, item := range items {
		child := *t.Task
		child.ID = fmt.Sprintf("%s.%d", t.ID, i+1)
		scope := child.Scope(tasks)
		scope["item"], scope["index"] = item, i
		if err := child.render(scope); err != nil {
			return nil, fmt.Errorf("%s: %w", child.ID, err)
		}
		out[i] = child
	}
	return out, nil
}

func (t *Task) items(tasks map[string]any) ([]any, error) {
	v, err := Render(t.Items, t.Scope(tasks))
	if err != nil {
		return nil, err
	}
	items, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("the template gives a %T, not a list", v)
	}
	if len(items) > MaxItems {
		return nil, fmt.Errorf("there are %d items; at most %d can be run", len(items), MaxItems)
	}
	return items, nil
}

// render replaces t's with and description by rendered copies; what they were
// is shared with other readers and stays as it is.
func (t *Task) render(scope Scope) error {
	with, err := Render(t.With, scope)
	if err != nil {
		return fmt.Errorf("with: %w", err)
	}
	t.With, _ = with.(map[string]any)
	if t.Description, err = RenderText(t.Description, scope); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	t.Rendered = true
	return nil
}

// Scope is what t's templates see, tasks being the outputs so far by task id.
func (t *Task) Scope(tasks map[string]any) Scope {
	env := make(map[string]any, len(t.Env))
	for k, v := range t.Env {
		env[k] = v
	}
	return Scope{"tasks": tasks, "with": t.Inputs, "env": env}
}

// Resolve is t with the templates of its with and description replaced. A
// child's were replaced when its config was made and are never read as
// templates again.
func (t *Task) Resolve(tasks map[string]any) (*Task, error) {
	if t.Rendered {
		return t, nil
	}
	resolved := *t
	return &resolved, resolved.render(t.Scope(tasks))
}
