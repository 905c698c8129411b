package spec

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/examples/audit/tools"
)

// Bounds of what a file may ask for.
const (
	MaxIDBytes  = 64   // of a workflow's or task's id
	MaxItems    = 2000 // per collection, checked when the items are known
	MaxWorkers  = 64   // of max_workers
	MaxAttempts = 100  // of retry.max_attempts
	MaxTimeout  = 24 * time.Hour
)

func (w *Workflow) check(places []place) error {
	if err := w.checkID("id", w.ID); err != nil {
		return err
	}
	if len(places) == 0 {
		return w.at("tasks", "there are no tasks", "write at least one")
	}
	if err := w.checkIDs(places); err != nil {
		return err
	}
	for _, p := range places {
		if err := w.checkTask(p); err != nil {
			return err
		}
	}
	return w.checkGraph()
}

// checkIDs makes sure that each task's id is its own: it names a config, a row
// of the table and a template path. A collection's children get theirs later.
func (w *Workflow) checkIDs(places []place) error {
	seen := map[string]string{}
	for _, p := range places {
		field, id := p.field+".id", p.task.ID
		if id == "" && p.parent != nil && p.parent.Task == p.task {
			continue
		}
		if err := w.checkID(field, id); err != nil {
			return err
		}
		if first, ok := seen[id]; ok {
			return w.at(field, fmt.Sprintf("%s is the id of %s already", quote(id), first), "give each task its own")
		}
		seen[id] = p.field
	}
	return nil
}

var oddRune = regexp.MustCompile(`[^\w-]`)

func (w *Workflow) checkID(field, id string) error {
	what := ""
	switch odd := oddRune.FindString(id); {
	case id == "":
		what = "is missing or empty"
	case len(id) > MaxIDBytes:
		what = fmt.Sprintf("%s is %d bytes long", quote(id), len(id))
	case odd != "":
		what = fmt.Sprintf("%s has the character %q", quote(id), []rune(odd)[0])
	default:
		return nil
	}
	return w.at(field, what, fmt.Sprintf("use 1 to %d letters, digits, '-' and '_'", MaxIDBytes))
}

func (w *Workflow) checkTask(p place) error {
	t := p.task
	switch {
	case !slices.Contains(types, string(t.Type)):
		return w.at(p.field+".type", "unknown task type "+quote(string(t.Type)), "use "+list(types))
	case p.parent != nil && (t.Type != Basic || t.OnSuccess.Next+t.OnError.Next != ""):
		return w.at(p.field, "a child is basic and leads nowhere", "put on_success and on_error on the task around it")
	}
	if err := w.checkFields(t, p.field); err != nil {
		return err
	}
	for field, ok := range map[string]bool{
		"max_workers":            0 <= t.MaxWorkers && t.MaxWorkers <= MaxWorkers,
		"timeout":                0 <= t.Timeout && t.Timeout <= MaxTimeout,
		"retry.max_attempts":     0 <= t.Retry.MaxAttempts && t.Retry.MaxAttempts <= MaxAttempts,
		"retry.initial_interval": 0 <= t.Retry.InitialInterval && t.Retry.InitialInterval <= MaxTimeout,
	} {
		if !ok {
			return w.at(p.field+"."+field, "is out of bounds",
				fmt.Sprintf("use at most %d workers, %d attempts, %s; or leave it out", MaxWorkers, MaxAttempts, MaxTimeout))
		}
	}
	if t.Type == Basic {
		return w.checkTool(t, p.field)
	}
	return nil
}

// checkFields looks for what is missing and for what is not for t's type.
func (w *Workflow) checkFields(t *Task, field string) error {
	for f, value := range reflect.ValueOf(t).Elem().Fields() {
		of := strings.Fields(f.Tag.Get("of"))
		mine, at := slices.Contains(of, string(t.Type)), field+"."+f.Tag.Get("yaml")
		switch {
		case len(of) > 0 && !mine && !value.IsZero():
			return w.at(at, "is not for the type "+string(t.Type), "use it in a task of type "+list(of)+", or remove it")
		case mine && value.IsZero() && f.Tag.Get("need") != "":
			return w.at(at, "is missing", "write it: a task of type "+string(t.Type)+" needs it")
		}
	}
	return nil
}

func (w *Workflow) checkTool(t *Task, field string) error {
	if t.Tool.ID == "" {
		return w.at(field+".tool.id", "is missing", "name one of "+list(tools.Names()))
	}
	params, ok := tools.Params(t.Tool.ID)
	if !ok {
		return w.at(field+".tool.id", "there is no tool "+quote(t.Tool.ID), "use "+list(tools.Names()))
	}
	if given := slices.Sorted(maps.Keys(t.With)); !slices.Equal(given, slices.Sorted(slices.Values(params))) {
		return w.at(field+".with", "has "+list(given), "give the tool "+t.Tool.ID+" exactly "+strings.Join(params, ", "))
	}
	return nil
}
