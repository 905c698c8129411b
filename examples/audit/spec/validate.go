package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of what a file may ask for.
const (
	MaxIDBytes  = 64   // of a workflow's or task's id
	MaxTasks    = 500  // per workflow, children of parallel tasks included
	MaxItems    = 2000 // per collection, checked when the items are known
	MaxWorkers  = 64   // of max_workers
	MaxAttempts = 100  // of retry.max_attempts
	MaxTimeout  = 24 * time.Hour
)

// at makes the problem of a field.
func (w *Workflow) at(field, what, remedy string) error {
	return &FileError{File: w.file, Line: w.line(field), Field: field, What: what, Remedy: remedy}
}

// line is where the field is, or what should have had it.
func (w *Workflow) line(field string) int {
	for field != "" && w.lines[field] == 0 {
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return w.lines[field]
}

// validate checks the workflow as it was written; the first problem ends it.
func (w *Workflow) validate(rules Rules) error {
	if err := w.checkID("id", w.ID); err != nil {
		return err
	}
	if len(w.Tasks) == 0 {
		return w.at("tasks", "there are no tasks", "write at least one")
	}
	all, err := w.index()
	if err != nil {
		return err
	}
	if len(all) > MaxTasks {
		return w.at("tasks", fmt.Sprintf("there are %d tasks", len(all)), fmt.Sprintf("use at most %d", MaxTasks))
	}
	for i := range w.Tasks {
		if err := w.checkTask(&w.Tasks[i], fmt.Sprintf("tasks[%d]", i), rules.Tools); err != nil {
			return err
		}
	}
	if err := w.checkGraph(all); err != nil {
		return err
	}
	return w.checkTemplates(all)
}

// index lists every task by id, with its field; ids are unique in a workflow,
// since each names a config, a row of the table and a template path.
func (w *Workflow) index() (map[string]string, error) {
	all := map[string]string{}
	add := func(t *Task, field string) error {
		if err := w.checkID(field+".id", t.ID); err != nil {
			return err
		}
		if first, ok := all[t.ID]; ok {
			return w.at(field+".id", fmt.Sprintf("%s is the id of %s already", quote(t.ID), first), "give each task its own")
		}
		all[t.ID] = field
		return nil
	}
	for i := range w.Tasks {
		t, field := &w.Tasks[i], fmt.Sprintf("tasks[%d]", i)
		if err := add(t, field); err != nil {
			return nil, err
		}
		for j := range t.Tasks {
			if err := add(&t.Tasks[j], fmt.Sprintf("%s.tasks[%d]", field, j)); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func (w *Workflow) checkID(field, id string) error {
	remedy := fmt.Sprintf("use 1 to %d letters, digits, '-' and '_'", MaxIDBytes)
	switch {
	case id == "":
		return w.at(field, "is missing or empty", remedy)
	case len(id) > MaxIDBytes:
		return w.at(field, fmt.Sprintf("%s is %d bytes long", quote(id), len(id)), remedy)
	}
	for _, r := range id {
		if !isNameRune(r) {
			return w.at(field, fmt.Sprintf("%s has the character %q", quote(id), r), remedy)
		}
	}
	return nil
}

// checkTask checks a task of the workflow itself.
func (w *Workflow) checkTask(t *Task, field string, tools Tools) error {
	if err := w.checkFields(t, field); err != nil {
		return err
	}
	switch t.Type {
	case Basic:
		return w.checkBasic(t, field, tools)
	case Router:
		if t.Condition == "" {
			return w.at(field+".condition", "is missing", "write the value to route by, such as {{ .tasks.x.output.count }}")
		}
		if len(t.Routes) == 0 {
			return w.at(field+".routes", "is missing", "write value: task id, and default: task id for the rest")
		}
	case Parallel:
		return w.checkParallel(t, field, tools)
	case Collection:
		return w.checkCollection(t, field, tools)
	case Aggregate:
		if len(t.Collect) == 0 {
			return w.at(field+".collect", "is missing", "list the ids of the tasks whose outputs it takes")
		}
	}
	return nil
}

func (w *Workflow) checkParallel(t *Task, field string, tools Tools) error {
	if len(t.Tasks) == 0 {
		return w.at(field+".tasks", "is missing", "list the tasks to run side by side")
	}
	for i := range t.Tasks {
		if err := w.checkChild(&t.Tasks[i], fmt.Sprintf("%s.tasks[%d]", field, i), tools); err != nil {
			return err
		}
	}
	return nil
}

func (w *Workflow) checkCollection(t *Task, field string, tools Tools) error {
	if t.Items == nil {
		return w.at(field+".items", "is missing", "write a list or a template that gives one")
	}
	if text, ok := t.Items.(string); ok {
		if tmpl, err := parseTemplate(text); err == nil && !tmpl.single() {
			return w.at(field+".items", "is a text, not a list", "write a list or a single template such as {{ .tasks.x.output.names }}")
		}
	} else if items, ok := t.Items.([]any); !ok {
		return w.at(field+".items", "is not a list", "write a list or a template that gives one")
	} else if len(items) > MaxItems {
		return w.at(field+".items", fmt.Sprintf("has %d items", len(items)), fmt.Sprintf("use at most %d", MaxItems))
	}
	if t.Task == nil {
		return w.at(field+".task", "is missing", "write the task to run for each item")
	}
	if t.Task.ID != "" {
		return w.at(field+".task.id", "is set", "remove it: the ids of a collection's children are made from its own")
	}
	return w.checkChild(t.Task, field+".task", tools)
}

// checkChild checks a task inside a parallel or collection task.
func (w *Workflow) checkChild(t *Task, field string, tools Tools) error {
	if t.Type != Basic && slices.Contains(types(), string(t.Type)) {
		return w.at(field+".type", fmt.Sprintf("%s cannot be a child", quote(string(t.Type))), "use basic")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"on_success", t.OnSuccess != nil}, {"on_error", t.OnError != nil}, {"final", t.Final}} {
		if f.set {
			return w.at(field+"."+f.name, "is not for children", "put it on the task around them")
		}
	}
	if err := w.checkFields(t, field); err != nil {
		return err
	}
	return w.checkBasic(t, field, tools)
}

func (w *Workflow) checkBasic(t *Task, field string, tools Tools) error {
	if t.Tool == nil || t.Tool.ID == "" {
		return w.at(field+".tool.id", "is missing", "name one of "+list(tools.Names()))
	}
	required, optional, ok := tools.Params(t.Tool.ID)
	if !ok {
		return w.at(field+".tool.id", "there is no tool "+quote(t.Tool.ID), "use "+list(tools.Names()))
	}
	for _, name := range required {
		if _, ok := t.With[name]; !ok {
			return w.at(field+".with."+name, fmt.Sprintf("is missing, and the tool %s needs it", t.Tool.ID), "give it a value")
		}
	}
	known := slices.Sorted(slices.Values(append(slices.Clone(required), optional...)))
	for _, name := range slices.Sorted(maps.Keys(t.With)) {
		if !slices.Contains(known, name) {
			return w.at(field+".with."+quoteKey(name), "the tool "+t.Tool.ID+" does not read this", "use "+list(known))
		}
	}
	return nil
}

// misplaced finds a field that is not for t's type, and the types it is for;
// fields that are not named here are for all.
func (t *Task) misplaced() (name string, types []Type) {
	for _, f := range []struct {
		name  string
		set   bool
		types []Type
	}{
		{"tool", t.Tool != nil, []Type{Basic}},
		{"with", t.With != nil, []Type{Basic}},
		{"condition", t.Condition != "", []Type{Router}},
		{"routes", t.Routes != nil, []Type{Router}},
		{"on_success", t.OnSuccess != nil, []Type{Basic, Parallel, Collection, Aggregate}},
		{"final", t.Final, []Type{Basic, Parallel, Collection, Aggregate}},
		{"tasks", t.Tasks != nil, []Type{Parallel}},
		{"items", t.Items != nil, []Type{Collection}},
		{"task", t.Task != nil, []Type{Collection}},
		{"mode", t.Mode != "", []Type{Collection}},
		{"strategy", t.Strategy != "", []Type{Parallel, Collection}},
		{"max_workers", t.MaxWorkers != 0, []Type{Parallel, Collection}},
		{"collect", t.Collect != nil, []Type{Aggregate}},
		{"critical", t.Critical, []Type{Basic}},
	} {
		if f.set && !slices.Contains(f.types, t.Type) {
			return f.name, f.types
		}
	}
	return "", nil
}

// checkFields checks what can be said of a task by its own fields.
func (w *Workflow) checkFields(t *Task, field string) error {
	if t.Type == "" {
		return w.at(field+".type", "is missing", "use "+list(types()))
	}
	if !slices.Contains(types(), string(t.Type)) {
		return w.at(field+".type", "unknown task type "+quote(string(t.Type)), "use "+list(types()))
	}
	if name, fits := t.misplaced(); name != "" {
		names := make([]string, len(fits))
		for i, f := range fits {
			names[i] = string(f)
		}
		return w.at(field+"."+name, "is not for the type "+string(t.Type), "remove it, or use the type "+list(names))
	}
	if t.Final && t.Next() != "" {
		return w.at(field+".on_success.next", "follows a final task", "remove one of final and on_success")
	}
	if err := w.checkChoice(field+".mode", t.Mode, InParallel, InSequence); err != nil {
		return err
	}
	if err := w.checkChoice(field+".strategy", t.Strategy, WaitAll, FailFast); err != nil {
		return err
	}
	if t.MaxWorkers < 0 || t.MaxWorkers > MaxWorkers || t.MaxWorkers == 0 && w.lines[field+".max_workers"] > 0 {
		return w.at(field+".max_workers", fmt.Sprintf("is %d", t.MaxWorkers), fmt.Sprintf("use 1 to %d", MaxWorkers))
	}
	if d := time.Duration(t.Timeout); d < 0 || d > MaxTimeout || d < time.Millisecond && w.lines[field+".timeout"] > 0 {
		return w.at(field+".timeout", "is "+d.String(), "use 1ms to "+MaxTimeout.String())
	}
	return w.checkRetry(t.Retry, field+".retry")
}

func (w *Workflow) checkRetry(r *Retry, field string) error {
	if r == nil {
		return nil
	}
	if r.MaxAttempts < 0 || r.MaxAttempts > MaxAttempts || r.MaxAttempts == 0 && w.lines[field+".max_attempts"] > 0 {
		return w.at(field+".max_attempts", fmt.Sprintf("is %d", r.MaxAttempts), fmt.Sprintf("use 1 to %d", MaxAttempts))
	}
	for _, f := range []struct {
		name string
		d    Duration
	}{{"initial_interval", r.InitialInterval}, {"max_interval", r.MaxInterval}} {
		if d := time.Duration(f.d); d < 0 || d > MaxTimeout || d < time.Millisecond && w.lines[field+"."+f.name] > 0 {
			return w.at(field+"."+f.name, "is "+d.String(), "use 1ms to "+MaxTimeout.String())
		}
	}
	if r.MaxInterval > 0 && r.MaxInterval < r.InitialInterval {
		return w.at(field+".max_interval", "is shorter than initial_interval", "make it at least "+time.Duration(r.InitialInterval).String())
	}
	if r.Backoff != 0 && (r.Backoff < 1 || r.Backoff > 100) || r.Backoff == 0 && w.lines[field+".backoff"] > 0 {
		return w.at(field+".backoff", fmt.Sprintf("is %g", r.Backoff), "use 1 to 100")
	}
	return nil
}

func (w *Workflow) checkChoice(field, value string, choices ...string) error {
	if value == "" || slices.Contains(choices, value) {
		return nil
	}
	return w.at(field, "is "+quote(value), "use "+list(choices))
}

// checkSizes bounds the normalized configs; those of a collection's children
// are bounded again when they are made.
func (w *Workflow) checkSizes(limit int) error {
	for i := range w.Tasks {
		field := fmt.Sprintf("tasks[%d]", i)
		data, err := json.Marshal(&w.Tasks[i])
		if err != nil {
			return w.at(field, "has no JSON form: "+err.Error(), "use plain values")
		}
		if limit > 0 && len(data) > limit {
			return &FileError{
				File: w.file, Line: w.line(field), Field: field, Err: ErrTooLarge,
				What:   fmt.Sprintf("the config of %s is %d bytes, over the limit of %d", quote(w.Tasks[i].ID), len(data), limit),
				Remedy: "shorten its with, or put the data in a file and give its name",
			}
		}
	}
	return nil
}
