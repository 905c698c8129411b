package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The template language is the smallest part of text/template's that a workflow
// needs: value paths between double braces.
//
//	{{ .tasks.list.output.count }}
//
// Other than in text/template a path may hold names with a dash, a text that is
// one path and nothing else becomes the value itself (a list stays a list), and
// a path that leads nowhere is an error. There are no functions, loops or
// definitions: rendering always ends and touches nothing but its scope.

// Scope is what paths are looked up in: tasks, with, env, and in a collection's
// child item and index. Values are those of encoding/json.
type Scope map[string]any

// Render replaces the templates in v, a value of encoding/json, by what they
// name. v itself is left as it is.
func Render(v any, scope Scope) (any, error) {
	switch v := v.(type) {
	case string:
		t, err := parseTemplate(v)
		if err != nil {
			return nil, err
		}
		return t.render(scope)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			r, err := Render(e, scope)
			if err != nil {
				return nil, err
			}
			out[i] = r
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			r, err := Render(v[k], scope)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			out[k] = r
		}
		return out, nil
	}
	return v, nil
}

// RenderText renders a text to text, also if it is one path.
func RenderText(s string, scope Scope) (string, error) {
	v, err := Render(s, scope)
	if err != nil {
		return "", err
	}
	return scalarText(v)
}

// DecodeValue reads JSON the way templates see it: numbers keep their digits.
func DecodeValue(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// template is a text cut at its braces.
type template []piece

// piece is literal text or, if path is not nil, a value path.
type piece struct {
	text string
	path []string
}

func parseTemplate(s string) (template, error) {
	var t template
	for {
		before, rest, found := strings.Cut(s, "{{")
		if before != "" || !found && len(t) == 0 {
			t = append(t, piece{text: before})
		}
		if !found {
			return t, nil
		}
		inner, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, fmt.Errorf("the template %s has no closing braces", quote("{{"+rest))
		}
		names, ok := strings.CutPrefix(strings.TrimSpace(inner), ".")
		path := strings.Split(names, ".")
		if !ok || slices.ContainsFunc(path, isNoName) {
			return nil, fmt.Errorf("the template %s is not a value path", quote("{{"+inner+"}}"))
		}
		t = append(t, piece{path: path})
		s = after
	}
}

// isName tells whether s can be a part of a value path, and whether a name is
// fit to be an id.
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !isNameRune(r) }) < 0
}

func isNoName(s string) bool { return !isName(s) }

func isNameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-'
}

// single tells whether the text is one value path and nothing else.
func (t template) single() bool { return len(t) == 1 && t[0].path != nil }

// paths lists the value paths of the template.
func (t template) paths() [][]string {
	var out [][]string
	for _, p := range t {
		if p.path != nil {
			out = append(out, p.path)
		}
	}
	return out
}

func (t template) render(scope Scope) (any, error) {
	if t.single() {
		return scope.lookup(t[0].path)
	}
	var b strings.Builder
	for _, p := range t {
		if p.path == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := scope.lookup(p.path)
		if err != nil {
			return nil, err
		}
		text, err := scalarText(v)
		if err != nil {
			return nil, fmt.Errorf(".%s: %w", strings.Join(p.path, "."), err)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (s Scope) lookup(path []string) (any, error) {
	var v any = map[string]any(s)
	for i, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf(".%s has no fields, so there is no .%s",
				strings.Join(path[:i], "."), strings.Join(path[:i+1], "."))
		}
		if v, ok = m[name]; !ok {
			return nil, fmt.Errorf("there is no .%s", strings.Join(path[:i+1], "."))
		}
	}
	return v, nil
}

func scalarText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, int, int64, uint64, json.Number:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", nil
	}
	return "", fmt.Errorf("a list or a mapping cannot become part of a text; use it alone")
}
