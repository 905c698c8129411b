package spec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Templates are value paths between double braces and nothing else:
//
//	{{ .tasks.list.output.count }}
//
// A text that is one path becomes the value itself (a list stays a list), and a
// path that leads nowhere is an error. There are no functions and no loops:
// rendering always ends and touches nothing but its scope.
var (
	placeholder = regexp.MustCompile(`\{\{\s*(\.[^{}]*?)\s*\}\}`)
	lone        = regexp.MustCompile(`^` + placeholder.String() + `$`)
)

// Scope is what paths are looked up in: tasks, with, env, and in a collection's
// child item and index. Values are those of encoding/json.
type Scope map[string]any

// Render replaces the templates in v, a value of encoding/json, by what they
// name. v itself is left as it is.
func Render(v any, scope Scope) (any, error) {
	switch v := v.(type) {
	case string:
		if m := lone.FindStringSubmatch(v); m != nil {
			return scope.lookup(m[1])
		}
		return RenderText(v, scope)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = Render(e, scope); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			var err error
			if out[k], err = Render(e, scope); err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
		return out, nil
	}
	return v, nil
}

// RenderText renders a text to text.
func RenderText(text string, scope Scope) (string, error) {
	var failed error
	out := placeholder.ReplaceAllStringFunc(text, func(template string) string {
		path := placeholder.FindStringSubmatch(template)[1]
		v, err := scope.lookup(path)
		switch v := v.(type) {
		case nil:
			failed = err
			return ""
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		case string, bool, int, json.Number:
			return fmt.Sprint(v)
		}
		failed = fmt.Errorf("%s: a list or a mapping cannot become part of a text; use it alone", path)
		return ""
	})
	return out, failed
}

func (s Scope) lookup(path string) (any, error) {
	var v any = map[string]any(s)
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		fields, _ := v.(map[string]any) // what is no mapping has no fields
		var ok bool
		if v, ok = fields[name]; !ok {
			return nil, fmt.Errorf("there is no %s (%s)", path, name)
		}
	}
	return v, nil
}

// Needs lists the tasks whose outputs t and its children name.
func (t *Task) Needs() []string {
	ids := slices.Clone(t.Collect)
	for _, p := range t.family("") {
		for _, path := range paths([]any{p.task.Condition, p.task.Description, p.task.Items, p.task.With}) {
			if part := strings.Split(path, "."); len(part) > 2 && part[1] == "tasks" {
				ids = append(ids, part[2])
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// paths lists the value paths in v.
func paths(v any) (out []string) {
	switch v := v.(type) {
	case string:
		for _, m := range placeholder.FindAllStringSubmatch(v, -1) {
			out = append(out, m[1])
		}
	case []any:
		for _, e := range v {
			out = append(out, paths(e)...)
		}
	case map[string]any:
		for _, e := range v {
			out = append(out, paths(e)...)
		}
	}
	return out
}
