package spec

import "fmt"

// Children makes the configs of a parallel or collection task's children:
// complete, with every template replaced by its value. It needs what only the
// running workflow knows, the outputs of earlier tasks.
func (t *Task) Children(tasks map[string]any) ([]Task, error) {
	if t.Type == Parallel {
		out := make([]Task, len(t.Tasks))
		for i, child := range t.Tasks {
			var err error
			if out[i], err = child.rendered(child.Scope(tasks)); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	items, err := t.items(tasks)
	if err != nil {
		return nil, fmt.Errorf("items: %w", err)
	}
	out := make([]Task, len(items))
	for i, item := range items {
		child, scope := *t.Task, t.Task.Scope(tasks)
		child.ID = fmt.Sprintf("%s.%d", t.ID, i+1)
		scope["item"], scope["index"] = item, i
		if out[i], err = child.rendered(scope); err != nil {
			return nil, err
		}
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
		return nil, fmt.Errorf("this is a %T, not a list", v)
	}
	if len(items) > MaxItems {
		return nil, fmt.Errorf("there are %d; at most %d can be run", len(items), MaxItems)
	}
	return items, nil
}

// Resolve is t with the templates of its with and description replaced. A
// child's were replaced when its config was made and are never read as
// templates again.
func (t *Task) Resolve(tasks map[string]any) (Task, error) {
	if t.Rendered {
		return *t, nil
	}
	return t.rendered(t.Scope(tasks))
}

// rendered is a copy with values in the place of templates; t may be shared
// with other readers.
func (t Task) rendered(scope Scope) (Task, error) {
	with, err := Render(t.With, scope)
	if err != nil {
		return t, fmt.Errorf("%s: with: %w", t.ID, err)
	}
	t.With, _ = with.(map[string]any)
	if t.Description, err = RenderText(t.Description, scope); err != nil {
		return t, fmt.Errorf("%s: description: %w", t.ID, err)
	}
	t.Rendered = true
	return t, nil
}

// Scope is what t's templates see, tasks being the outputs so far by task id.
func (t *Task) Scope(tasks map[string]any) Scope {
	env := make(map[string]any, len(t.Env))
	for k, v := range t.Env {
		env[k] = v
	}
	return Scope{"tasks": tasks, "with": t.Inputs, "env": env}
}
