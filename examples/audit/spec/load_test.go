package spec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toolbox is a set of tools for tests: echo needs text and may have more.
type toolbox struct{}

func (toolbox) Names() []string { return []string{"count", "echo"} }

func (toolbox) Params(name string) (required, optional []string, ok bool) {
	switch name {
	case "echo":
		return []string{"text"}, []string{"more"}, true
	case "count":
		return nil, nil, true
	}
	return nil, nil, false
}

func parse(yaml string) (*Workflow, error) {
	return Parse("w.yaml", []byte(yaml), Rules{Tools: toolbox{}, MaxConfigBytes: 1 << 20})
}

const echo = "{ id: a, type: basic, tool: { id: echo }, with: { text: hi } }"

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	for name, c := range map[string]struct {
		yaml string
		line int
		says []string // field, problem, remedy
	}{
		"refuses an empty file":                {"", 0, []string{"is empty", "write a workflow"}},
		"refuses a file of comments":           {"# nothing\n", 0, []string{"is empty"}},
		"refuses broken syntax with its line":  {"id: w\ntasks:\n  - id: [\n", 3, []string{"is not YAML", "mend the syntax"}},
		"refuses a tab as indentation":         {"id: w\ntasks:\n\t- id: a\n", 3, []string{"is not YAML"}},
		"refuses a scalar":                     {"hello\n", 1, []string{"is a single value", "write a mapping"}},
		"refuses two documents":                {"id: w\ntasks: [" + echo + "]\n---\nid: v\n", 3, []string{"more than one document"}},
		"refuses an anchor":                    {"id: &x w\ntasks: [" + echo + "]\n", 1, []string{"id: anchors", "write the value out"}},
		"refuses a field it does not know":     {"id: w\nagents: []\n", 2, []string{"agents: unknown field", "use description, env, id, tasks or with"}},
		"refuses a task field it does not":     {"id: w\ntasks:\n  - id: a\n    kind: basic\n", 4, []string{"tasks[0].kind: unknown field", "type"}},
		"refuses a field twice":                {"id: w\nid: v\n", 2, []string{"id: is there twice", "remove one"}},
		"refuses a missing workflow id":        {"tasks: [" + echo + "]\n", 1, []string{"id: is missing", "use 1 to 64 letters"}},
		"refuses an empty id":                  {"id: \"\"\ntasks: [" + echo + "]\n", 1, []string{"id: is missing or empty"}},
		"refuses a null id":                    {"id:\ntasks: [" + echo + "]\n", 1, []string{"id: has no value"}},
		"refuses a list as an id":              {"id: [w]\n", 1, []string{"id: is a list", "single value"}},
		"refuses braces in an id":              {"id: w\ntasks: [{ id: 'a{b}', type: basic }]\n", 2, []string{"tasks[0].id", `has the character '{'`, "letters, digits"}},
		"refuses a colon in an id":             {"id: 'a:b'\n", 1, []string{"id: ", `has the character ':'`}},
		"refuses a star in an id":              {"id: 'a*b'\n", 1, []string{`has the character '*'`}},
		"refuses a question mark in an id":     {"id: 'a?b'\n", 1, []string{`has the character '?'`}},
		"refuses brackets in an id":            {"id: 'a[b]'\n", 1, []string{`has the character '['`}},
		"refuses a newline in an id":           {"id: \"a\\nb\"\n", 1, []string{`has the character '\n'`}},
		"refuses a zero byte in an id":         {"id: \"a\\0b\"\n", 1, []string{`has the character '\x00'`}},
		"refuses an id of 10 kB":               {"id: " + long + "\n", 1, []string{"id: ", "is 10000 bytes long", "use 1 to 64"}},
		"refuses no tasks":                     {"id: w\n", 1, []string{"tasks: there are no tasks"}},
		"refuses an empty list of tasks":       {"id: w\ntasks: []\n", 2, []string{"tasks: there are no tasks"}},
		"refuses one id for two tasks":         {"id: w\ntasks:\n  - " + echo + "\n  - " + echo + "\n", 4, []string{"tasks[1].id", "is the id of tasks[0] already"}},
		"refuses a child's id that is taken":   {"id: w\ntasks:\n  - id: a\n    type: parallel\n    tasks: [" + echo + "]\n", 5, []string{"tasks[0].tasks[0].id", "is the id of tasks[0] already"}},
		"refuses a missing type":               {"id: w\ntasks: [{ id: a }]\n", 2, []string{"tasks[0].type: is missing", "use basic, router"}},
		"refuses an unknown type":              {"id: w\ntasks:\n  - id: a\n    type: wait\n", 4, []string{`tasks[0].type: unknown task type "wait"`, "use basic, router, parallel, collection or aggregate"}},
		"refuses a missing tool":               {"id: w\ntasks: [{ id: a, type: basic }]\n", 2, []string{"tasks[0].tool.id: is missing", "name one of count or echo"}},
		"refuses an unknown tool":              {"id: w\ntasks: [{ id: a, type: basic, tool: { id: rm } }]\n", 2, []string{`tasks[0].tool.id: there is no tool "rm"`, "use count or echo"}},
		"refuses a tool as text":               {"id: w\ntasks: [{ id: a, type: basic, tool: echo }]\n", 2, []string{"tasks[0].tool: is a single value"}},
		"refuses a parameter that is missing":  {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo } }]\n", 2, []string{"tasks[0].with.text: is missing", "needs it"}},
		"refuses a parameter nobody reads":     {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: x, txt: y } }]\n", 2, []string{"tasks[0].with.txt", "does not read this", "use more or text"}},
		"refuses routes on a basic task":       {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, routes: { x: a } }]\n", 2, []string{"tasks[0].routes: is not for the type basic", "router"}},
		"refuses a next that leads nowhere":    {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, on_success: { next: b } }]\n", 2, []string{"tasks[0].on_success.next", `there is no task "b"`}},
		"refuses an empty next":                {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, on_success: {} }]\n", 2, []string{"tasks[0].on_success.next: is missing"}},
		"refuses an error edge to nowhere":     {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, on_error: { next: b } }]\n", 2, []string{"tasks[0].on_error.next", `there is no task "b"`}},
		"refuses a route that leads nowhere":   {"id: w\ntasks: [{ id: a, type: router, condition: x, routes: { x: b } }]\n", 2, []string{"tasks[0].routes.x", `there is no task "b"`}},
		"refuses a task that leads to itself":  {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, on_success: { next: a } }]\n", 2, []string{"tasks[0].on_success.next: closes the cycle a -> a"}},
		"refuses a cycle":                      {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: count }, on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: count }, on_success: { next: a } }\n", 4, []string{"tasks[1].on_success.next: closes the cycle a -> b -> a", "let it lead to a later task"}},
		"refuses a cycle over an error edge":   {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: count }, on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: count }, on_error: { next: a } }\n", 4, []string{"tasks[1].on_error.next: closes the cycle"}},
		"refuses a cycle over a route":         {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: count }, on_success: { next: b } }\n  - { id: b, type: router, condition: x, routes: { default: a } }\n", 4, []string{"tasks[1].routes.default: closes the cycle"}},
		"refuses a task nothing leads to":      {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: count } }\n  - { id: b, type: basic, tool: { id: count } }\n", 4, []string{`tasks[1]: no task leads to "b"`, "remove it"}},
		"refuses an edge to a child":           {"id: w\ntasks:\n  - { id: p, type: parallel, tasks: [" + echo + "], on_success: { next: a } }\n", 3, []string{"on_success.next", "is a child of another task"}},
		"refuses a final task with a next":     {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, final: true, on_success: { next: b } }]\n", 2, []string{"tasks[0].on_success.next: follows a final task"}},
		"refuses a router without condition":   {"id: w\ntasks: [{ id: a, type: router, routes: { x: b } }]\n", 2, []string{"tasks[0].condition: is missing"}},
		"refuses a collection without items":   {"id: w\ntasks: [{ id: a, type: collection }]\n", 2, []string{"tasks[0].items: is missing"}},
		"refuses a collection without task":    {"id: w\ntasks: [{ id: a, type: collection, items: [1] }]\n", 2, []string{"tasks[0].task: is missing"}},
		"refuses items that are a text":        {"id: w\ntasks: [{ id: a, type: collection, items: abc }]\n", 2, []string{"tasks[0].items: is a text, not a list"}},
		"refuses an id on a collection's task": {"id: w\ntasks: [{ id: a, type: collection, items: [1], task: { id: x, type: basic, tool: { id: count } } }]\n", 2, []string{"tasks[0].task.id: is set", "remove it"}},
		"refuses a router as a child":          {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: router }] }]\n", 2, []string{"tasks[0].tasks[0].type", "cannot be a child", "use basic"}},
		"refuses an edge on a child":           {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: basic, tool: { id: count }, on_success: { next: a } }] }]\n", 2, []string{"tasks[0].tasks[0].on_success: is not for children"}},
		"refuses an unknown type of a child":   {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: wait }] }]\n", 2, []string{`tasks[0].tasks[0].type: unknown task type "wait"`}},
		"refuses too many workers":             {"id: w\ntasks: [{ id: p, type: parallel, max_workers: 65, tasks: [" + echo + "] }]\n", 2, []string{"tasks[0].max_workers: is 65", "use 1 to 64"}},
		"refuses no workers":                   {"id: w\ntasks: [{ id: p, type: parallel, max_workers: 0, tasks: [" + echo + "] }]\n", 2, []string{"tasks[0].max_workers: is 0"}},
		"refuses an unknown strategy":          {"id: w\ntasks: [{ id: p, type: parallel, strategy: race, tasks: [" + echo + "] }]\n", 2, []string{`tasks[0].strategy: is "race"`, "use wait_all or fail_fast"}},
		"refuses a timeout without a unit":     {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, timeout: 30 }]\n", 2, []string{`tasks[0].timeout: "30" is not a duration`, "30s"}},
		"refuses a negative timeout":           {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, timeout: -1s }]\n", 2, []string{"tasks[0].timeout: is -1s"}},
		"refuses zero attempts":                {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, retry: { max_attempts: 0 } }]\n", 2, []string{"tasks[0].retry.max_attempts: is 0", "use 1 to 100"}},
		"refuses attempts that are no number":  {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, retry: { max_attempts: many } }]\n", 2, []string{`tasks[0].retry.max_attempts: "many" is not a whole number`}},
		"refuses a shrinking backoff":          {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, retry: { backoff: 0.5 } }]\n", 2, []string{"tasks[0].retry.backoff: is 0.5"}},
		"refuses text for a boolean":           {"id: w\ntasks: [{ id: a, type: basic, tool: { id: count }, critical: 'true' }]\n", 2, []string{`tasks[0].critical: "true" is not a boolean`}},
		"refuses an open template":             {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .with.x' } }]\n", 2, []string{"tasks[0].with.text", "has no closing braces"}},
		"refuses a template that calls":        {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ printf \"%99d\" 1 }}' } }]\n", 2, []string{"tasks[0].with.text", "is not a value path"}},
		"refuses an empty template":            {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ . }}' } }]\n", 2, []string{"is not a value path"}},
		"refuses an unknown root":              {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .os.env }}' } }]\n", 2, []string{`".os.env" names nothing`}},
		"refuses an input that is not there":   {"id: w\nwith: { y: 1 }\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .with.x }}' } }]\n", 3, []string{"the workflow has no with.x", "use y"}},
		"refuses an env that is not there":     {"id: w\nenv: { B: 1 }\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .env.A }}' } }]\n", 3, []string{"there is no env.A", "use B"}},
		"refuses an item outside a collection": {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .item }}' } }]\n", 2, []string{".item is known only to a collection's task"}},
		"refuses an output of nobody":          {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .tasks.b.output }}' } }]\n", 2, []string{`there is no task "b"`}},
		"refuses an output of a later task":    {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: echo }, with: { text: '{{ .tasks.b.output.x }}' }, on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: count } }\n", 3, []string{`tasks[0].with.text: "b" does not run before "a"`}},
		"refuses its own output":               {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: '{{ .tasks.a.output.x }}' } }]\n", 2, []string{`"a" does not run before "a"`}},
		"refuses to collect a later task":      {"id: w\ntasks:\n  - { id: a, type: aggregate, collect: [b], on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: count } }\n", 3, []string{`tasks[0].collect[0]: "b" does not run before "a"`}},
		"refuses a number without JSON form":   {"id: w\ntasks: [{ id: a, type: basic, tool: { id: echo }, with: { text: .inf } }]\n", 2, []string{"tasks[0].with.text", "has no JSON form"}},
		"refuses a config over the limit":      {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: echo }, with: { text: " + strings.Repeat("x", 1<<20) + " } }\n", 3, []string{"tasks[0]", "over the limit of 1048576", "put the data in a file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := parse(c.yaml)
			var p *FileError
			if !errors.As(err, &p) {
				t.Fatalf("Parse = %v, %v; want a *FileError", w, err)
			}
			text := err.Error()
			if p.Line != c.line {
				t.Errorf("line %d, want %d: %s", p.Line, c.line, text)
			}
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("%q does not say %q", text, s)
				}
			}
			if strings.ContainsAny(text, "\n\r\x00") || len(text) > 400 || p.Remedy == "" {
				t.Errorf("not one short line with a remedy (%d bytes): %.500q", len(text), text)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, make([]byte, MaxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, says string }{
		"refuses a directory":            {dir, "is not a file; name a workflow file"},
		"refuses a file that is missing": {filepath.Join(dir, "none.yaml"), "no such file; name a workflow file"},
		"refuses a name of 10 kB":        {strings.Repeat("n", 10_000), "cannot be read"},
		"refuses a huge file":            {big, "is larger than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(c.path, Rules{Tools: toolbox{}})
			if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 500 {
				t.Errorf("Load = %.500v; want %q", err, c.says)
			}
		})
	}
}

func TestNormalizedConfigsAreCompleteInThemselves(t *testing.T) {
	t.Parallel()
	w, err := Parse("w.yaml", []byte(`
id: w
with: { dir: /src, n: 1 }
env: { A: workflow, B: workflow }
tasks:
  - id: p
    type: parallel
    env: { B: task, C: task }
    tasks:
      - { id: c, type: basic, tool: { id: echo }, env: { C: child }, with: { text: "{{ .env.A }} {{ .env.B }} {{ .env.C }} {{ .with.dir }}" } }
    on_success: { next: s }
  - id: s
    type: collection
    mode: sequential
    items: [x, { y: 1 }]
    task: { type: basic, tool: { id: echo }, with: { text: "{{ .item }}", more: ["{{ .index }}", "no. {{ .index }}"] }, timeout: 2s, retry: { max_attempts: 7 } }
`), Rules{Tools: toolbox{}, Settle: func(with map[string]any) error { with["dir"] = "/other"; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	p, s := &w.Tasks[0], &w.Tasks[1]
	if time.Duration(p.Timeout) != 5*time.Minute || *p.Retry != (Retry{3, Duration(time.Second), Duration(time.Minute), 2}) || p.MaxWorkers != 8 || p.Strategy != WaitAll {
		t.Errorf("defaults are missing: %+v %+v", p, p.Retry)
	}
	if s.MaxWorkers != 1 || s.Mode != InSequence {
		t.Errorf("a sequential collection has %d workers", s.MaxWorkers)
	}

	children, err := p.Children(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := children[0].With["text"]; got != "workflow task child /other" {
		t.Errorf("the child's text is %q", got)
	}
	if p.Tasks[0].Rendered || !children[0].Rendered || children[0].ParentID != "p" {
		t.Error("Children changed its source, or did not mark the child")
	}

	items, err := s.Children(nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(items[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id":"s.2"`, `"text":{"y":1}`, `"more":[1,"no. 1"]`, `"timeout":"2s"`, `"max_attempts":7`, `"workflow_id":"w"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
	var back Task
	if err := json.Unmarshal(data, &back); err != nil || time.Duration(back.Timeout) != 2*time.Second {
		t.Errorf("a config does not survive JSON: %v %+v", err, back)
	}
}

func TestItemsAreNeverReadAsTemplates(t *testing.T) {
	t.Parallel()
	w, err := parse(`
id: w
with: { secret: s3cret }
tasks:
  - id: s
    type: collection
    items: ["{{ .with.secret }}"]
    task: { type: basic, tool: { id: echo }, with: { text: "{{ .item }}" } }
`)
	if err != nil {
		t.Fatal(err)
	}
	w.Tasks[0].Items = []any{map[string]any{"tricky": "x"}}
	children, err := w.Tasks[0].Children(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	children[0].With["text"] = "{{ .with.secret }}" // as if an item had said so
	resolved, err := children[0].Resolve(nil)
	if err != nil || resolved.With["text"] != "{{ .with.secret }}" {
		t.Errorf("a child's value was rendered again: %v, %v", resolved.With, err)
	}
}
