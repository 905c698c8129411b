package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// edges are the ways from a task to others: the field that says so, and the id.
func (t *Task) edges(field string) map[string]string {
	out := map[string]string{}
	if t.OnSuccess.Next != "" {
		out[field+".on_success.next"] = t.OnSuccess.Next
	}
	if t.OnError.Next != "" {
		out[field+".on_error.next"] = t.OnError.Next
	}
	for value, id := range t.Routes {
		out[field+".routes."+value] = id
	}
	return out
}

// checkGraph refuses edges that lead nowhere, edges that close a cycle, and
// tasks that no edge leads to. The first task of the file is the start.
func (w *Workflow) checkGraph() error {
	index := map[string]int{}
	for i, t := range w.Tasks {
		index[t.ID] = i
	}
	var path []string // from the start to the task that is visited
	done := map[string]bool{}
	var visit func(i int) error
	visit = func(i int) error {
		id := w.Tasks[i].ID
		path = append(path, id)
		edges := w.Tasks[i].edges(fmt.Sprintf("tasks[%d]", i))
		for _, field := range slices.Sorted(maps.Keys(edges)) {
			to := edges[field]
			next, ok := index[to]
			if !ok {
				return w.at(field, "there is no task "+quote(to), "use the id of a task of this file")
			}
			if i := slices.Index(path, to); i >= 0 {
				return w.at(field, "closes the cycle "+strings.Join(append(path[i:], to), " -> "), "let it lead to a later task")
			}
			if !done[to] {
				if err := visit(next); err != nil {
					return err
				}
			}
		}
		path, done[id] = path[:len(path)-1], true
		return nil
	}
	if err := visit(0); err != nil {
		return err
	}
	for i, t := range w.Tasks {
		if !done[t.ID] {
			return w.at(fmt.Sprintf("tasks[%d]", i), "no task leads to "+quote(t.ID), "name it in a next or in routes, or remove it")
		}
	}
	return nil
}
