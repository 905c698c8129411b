package spec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	t.Parallel()
	scope := Scope{
		"item":  map[string]any{"name": "x", "list": []any{"a", json.Number("2")}},
		"with":  map[string]any{"n": json.Number("12345678901234567"), "b": true, "nil": nil, "f": 1.5},
		"tasks": map[string]any{"list-all": map[string]any{"output": map[string]any{"count": json.Number("3")}}},
	}
	for name, c := range map[string]struct {
		in   any
		want any
		err  string
	}{
		"leaves text alone":              {"plain { } text", "plain { } text", ""},
		"leaves the empty text":          {"", "", ""},
		"keeps the type of a lone path":  {"{{ .item.list }}", []any{"a", json.Number("2")}, ""},
		"keeps all digits":               {"{{ .with.n }}", json.Number("12345678901234567"), ""},
		"joins scalars into text":        {"n={{.with.n}} b={{ .with.b }}{{.with.nil}} f={{.with.f}}.", "n=12345678901234567 b=true f=1.5.", ""},
		"reads names with a dash":        {"{{ .tasks.list-all.output.count }}", json.Number("3"), ""},
		"goes into lists and mappings":   {map[string]any{"a": []any{"{{ .item.name }}", 1}}, map[string]any{"a": []any{"x", 1}}, ""},
		"refuses a path to nowhere":      {"{{ .item.none }}", nil, "there is no .item.none"},
		"refuses fields of a scalar":     {"{{ .item.name.x }}", nil, "there is no .item.name.x (x)"},
		"refuses a list inside a text":   {"a {{ .item.list }}", nil, "use it alone"},
		"names the field that is wrong":  {map[string]any{"a": "{{ .item.none }}"}, nil, "a: there is no"},
		"leaves a value with braces be":  {"{{ .item.name }}}}", "x}}", ""},
		"does not find Go's own members": {"{{ .item.String }}", nil, "there is no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Render(c.in, scope)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("Render = %v, %v; want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("Render = %#v, %v; want %#v", got, err, c.want)
			}
		})
	}
}

// FuzzParse looks for input that panics, and for problems that are not one
// short line.
func FuzzParse(f *testing.F) {
	f.Add("id: w\ntasks: [" + list1 + "]\n")
	f.Add("id: w\ntasks:\n  - id: a\n    type: collection\n    items: \"{{ .tasks.b.output }}\"\n    task: { type: basic }\n")
	f.Add("a: &a [*a]\n")
	f.Add("? {}\n: x\n")
	f.Add("id: !!binary aGk=\n")
	f.Fuzz(func(t *testing.T, yaml string) {
		w, err := parse(yaml)
		if err == nil {
			if _, err := json.Marshal(w.Tasks); err != nil {
				t.Errorf("accepted what has no JSON form: %v", err)
			}
			return
		}
		if text := fmt.Sprint(err); strings.ContainsAny(text, "\n\r") || len(text) > 2000 {
			t.Errorf("not one short line: %.300q", text)
		}
	})
}
