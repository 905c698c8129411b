package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// edge is one way from a task to another, and the field that says so.
type edge struct{ to, field string }

func (t *Task) edges(field string) []edge {
	var out []edge
	if t.OnSuccess != nil {
		out = append(out, edge{t.OnSuccess.Next, field + ".on_success.next"})
	}
	for _, value := range slices.Sorted(maps.Keys(t.Routes)) {
		out = append(out, edge{t.Routes[value], field + ".routes." + quoteKey(value)})
	}
	if t.OnError != nil {
		out = append(out, edge{t.OnError.Next, field + ".on_error.next"})
	}
	return out
}

// checkGraph refuses edges that lead nowhere, edges that close a cycle and
// tasks that no edge leads to. The first task of the file is the start.
func (w *Workflow) checkGraph(all map[string]string) error {
	out := map[string][]edge{}
	for i := range w.Tasks {
		field := fmt.Sprintf("tasks[%d]", i)
		edges := w.Tasks[i].edges(field)
		for _, e := range edges {
			if err := w.checkTarget(e, all); err != nil {
				return err
			}
		}
		out[w.Tasks[i].ID] = edges
	}
	reached, err := w.walk(w.Tasks[0].ID, out)
	if err != nil {
		return err
	}
	for i := range w.Tasks {
		if !reached[w.Tasks[i].ID] {
			return w.at(fmt.Sprintf("tasks[%d]", i), fmt.Sprintf("no task leads to %s", quote(w.Tasks[i].ID)),
				"name it in a next or in routes, or remove it")
		}
	}
	return nil
}

func (w *Workflow) checkTarget(e edge, all map[string]string) error {
	at, ok := all[e.to]
	switch {
	case e.to == "":
		return w.at(e.field, "is missing", "name a task, or remove the field to end here")
	case !ok:
		return w.at(e.field, "there is no task "+quote(e.to), "use the id of a task of this file")
	case strings.Contains(at, ".tasks["):
		return w.at(e.field, quote(e.to)+" is a child of another task", "name the task around it")
	}
	return nil
}

// walk follows the edges depth first and returns what it saw.
func (w *Workflow) walk(start string, out map[string][]edge) (map[string]bool, error) {
	done, reached := map[string]bool{}, map[string]bool{}
	var path []string
	var visit func(id string) error
	visit = func(id string) error {
		reached[id] = true
		path = append(path, id)
		for _, e := range out[id] {
			if i := slices.Index(path, e.to); i >= 0 {
				return w.at(e.field, "closes the cycle "+cycle(append(path[i:], e.to)), "let it lead to a later task")
			}
			if !done[e.to] {
				if err := visit(e.to); err != nil {
					return err
				}
			}
		}
		path = path[:len(path)-1]
		done[id] = true
		return nil
	}
	return reached, visit(start)
}

// cycle shows where a cycle runs; a long one by its ends.
func cycle(ids []string) string {
	if len(ids) > 6 {
		ids = append(append(slices.Clone(ids[:3]), "..."), ids[len(ids)-2:]...)
	}
	return strings.Join(ids, " -> ")
}

// before lists the tasks that can have run when id starts.
func (w *Workflow) before(id string) map[string]bool {
	out := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for i := range w.Tasks {
			t := &w.Tasks[i]
			if out[t.ID] {
				continue
			}
			for _, e := range t.edges("") {
				if e.to == id || out[e.to] {
					out[t.ID], grown = true, true
				}
			}
		}
	}
	return out
}
