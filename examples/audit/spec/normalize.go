package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Normalize checks the workflow and makes every task config complete in
// itself: defaults filled in, what it inherits from the workflow copied. A
// config has at most maxBytes of JSON. The first problem ends it, as a
// *FileError.
func (w *Workflow) Normalize(maxBytes int) error {
	places := w.places()
	if err := w.check(places); err != nil {
		return err
	}
	for _, p := range places {
		env := w.Env
		if p.parent != nil {
			env = p.parent.Env
		}
		p.task.Env = merge(env, p.task.Env)
		p.task.Inputs = w.With
		p.task.complete()
	}
	return w.checkSizes(maxBytes)
}

// place is a task and where the file has it.
type place struct {
	field  string
	task   *Task
	parent *Task // of a child, else nil
}

// places lists all tasks, parents before their children.
func (w *Workflow) places() (out []place) {
	for i := range w.Tasks {
		out = append(out, w.Tasks[i].family(fmt.Sprintf("tasks[%d]", i))...)
	}
	return out
}

// family lists a task and its children.
func (t *Task) family(field string) []place {
	out := []place{{field, t, nil}}
	for i := range t.Tasks {
		out = append(out, place{fmt.Sprintf("%s.tasks[%d]", field, i), &t.Tasks[i], t})
	}
	if t.Task != nil {
		out = append(out, place{field + ".task", t.Task, t})
	}
	return out
}

// merge returns both, over winning.
func merge(base, over map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}

func (t *Task) complete() {
	if t.Timeout == 0 {
		t.Timeout = 5 * time.Minute
	}
	if t.Retry.MaxAttempts == 0 {
		t.Retry.MaxAttempts = 3
	}
	if t.Retry.InitialInterval == 0 {
		t.Retry.InitialInterval = time.Second
	}
	if t.MaxWorkers == 0 {
		t.MaxWorkers = 8
	}
}

// checkSizes bounds the configs; those of a collection's children are bounded
// by the store when they are made.
func (w *Workflow) checkSizes(limit int) error {
	for i := range w.Tasks {
		field := fmt.Sprintf("tasks[%d]", i)
		data, err := json.Marshal(&w.Tasks[i])
		if err != nil {
			return w.at(field, "has no JSON form: "+err.Error(), "use plain values")
		}
		if len(data) > limit {
			return w.at(field, fmt.Sprintf("the config of %s is %d bytes, over the limit of %d", quote(w.Tasks[i].ID), len(data), limit),
				"shorten its with, or put the data in a file and give its name")
		}
	}
	return nil
}
