package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkTemplates parses every template and refuses paths that can name nothing
// when the task runs.
func (w *Workflow) checkTemplates(all map[string]string) error {
	for i := range w.Tasks {
		t, field := &w.Tasks[i], fmt.Sprintf("tasks[%d]", i)
		c := checker{w: w, task: t, before: w.before(t.ID), all: all}
		err := c.check(t.Condition, field+".condition", t.Env, false)
		if err == nil {
			err = c.check(t.Items, field+".items", t.Env, false)
		}
		if err == nil {
			err = c.checkTexts(t, field, t.Env, false)
		}
		for j := 0; j < len(t.Tasks) && err == nil; j++ {
			err = c.checkTexts(&t.Tasks[j], fmt.Sprintf("%s.tasks[%d]", field, j), merge(t.Env, t.Tasks[j].Env), false)
		}
		if t.Task != nil && err == nil {
			err = c.checkTexts(t.Task, field+".task", merge(t.Env, t.Task.Env), true)
		}
		for j := 0; j < len(t.Collect) && err == nil; j++ {
			err = c.checkTask(t.Collect[j], fmt.Sprintf("%s.collect[%d]", field, j))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTexts checks what tasks of every type may have.
func (c checker) checkTexts(t *Task, field string, env map[string]string, item bool) error {
	if err := c.check(t.Description, field+".description", env, item); err != nil {
		return err
	}
	return c.check(withOf(t), field+".with", env, item)
}

func withOf(t *Task) any {
	if t.With == nil {
		return nil
	}
	return t.With
}

// checker checks the templates of one task.
type checker struct {
	w      *Workflow
	task   *Task
	before map[string]bool
	all    map[string]string
}

func (c checker) check(v any, field string, env map[string]string, item bool) error {
	switch v := v.(type) {
	case string:
		t, err := parseTemplate(v)
		if err != nil {
			return c.w.at(field, err.Error(), "write {{ .tasks.<id>.output.<field> }}, {{ .with.<name> }}, {{ .env.<NAME> }} or {{ .item }}")
		}
		for _, path := range t.paths() {
			if err := c.checkPath(path, field, env, item); err != nil {
				return err
			}
		}
	case []any:
		for i, e := range v {
			if err := c.check(e, fmt.Sprintf("%s[%d]", field, i), env, item); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if err := c.check(v[k], join(field, quoteKey(k)), env, item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c checker) checkPath(path []string, field string, env map[string]string, item bool) error {
	name := "." + strings.Join(path, ".")
	switch root := path[0]; {
	case root == "tasks" && len(path) >= 3:
		if path[2] != "output" && path[2] != "error" {
			return c.w.at(field, name+" names neither output nor error", "write .tasks.<id>.output.<field> or .tasks.<id>.error")
		}
		return c.checkTask(path[1], field)
	case root == "with" && len(path) >= 2:
		if _, ok := c.w.With[path[1]]; !ok {
			return c.w.at(field, "the workflow has no with."+path[1], "use "+list(slices.Sorted(maps.Keys(c.w.With))))
		}
		return nil
	case root == "env" && len(path) == 2:
		if _, ok := merge(c.w.Env, env)[path[1]]; !ok {
			return c.w.at(field, "there is no env."+path[1], "use "+list(slices.Sorted(maps.Keys(merge(c.w.Env, env)))))
		}
		return nil
	case item && (root == "item" || root == "index" && len(path) == 1):
		return nil
	case root == "item" || root == "index":
		return c.w.at(field, name+" is known only to a collection's task", "use it in task.with of a collection")
	}
	return c.w.at(field, quote(name)+" names nothing", "write .tasks.<id>.output.<field>, .with.<name>, .env.<NAME>, .item or .index")
}

func (c checker) checkTask(id, field string) error {
	at, ok := c.all[id]
	switch {
	case !ok:
		return c.w.at(field, "there is no task "+quote(id), "use the id of a task of this file")
	case strings.Contains(at, ".tasks["):
		return c.w.at(field, quote(id)+" is a child of another task", "take its output from the task around it")
	case !c.before[id]:
		return c.w.at(field, fmt.Sprintf("%s does not run before %s", quote(id), quote(c.task.ID)), "use a task that leads here")
	}
	return nil
}

// Needs lists the tasks whose outputs the templates of t name, sorted.
func (t *Task) Needs() []string {
	ids := map[string]bool{}
	for _, id := range t.Collect {
		ids[id] = true
	}
	needs(t.Condition, ids)
	needs(t.Items, ids)
	t.needsTexts(ids)
	for i := range t.Tasks {
		t.Tasks[i].needsTexts(ids)
	}
	if t.Task != nil {
		t.Task.needsTexts(ids)
	}
	return slices.Sorted(maps.Keys(ids))
}

func (t *Task) needsTexts(ids map[string]bool) {
	needs(t.Description, ids)
	needs(withOf(t), ids)
}

func needs(v any, ids map[string]bool) {
	switch v := v.(type) {
	case string:
		t, err := parseTemplate(v)
		if err != nil {
			return // Load has refused it
		}
		for _, path := range t.paths() {
			if path[0] == "tasks" && len(path) > 1 {
				ids[path[1]] = true
			}
		}
	case []any:
		for _, e := range v {
			needs(e, ids)
		}
	case map[string]any:
		for _, e := range v {
			needs(e, ids)
		}
	}
}
