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

func parse(yaml string) (*Workflow, error) {
	w, err := Parse("w.yaml", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return w, w.Normalize(1 << 20)
}

const list1 = "{ id: a, type: basic, tool: { id: list_packages }, with: { tree: hi } }"

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	for name, c := range map[string]struct {
		yaml string
		line int
		says []string // field, problem, remedy
	}{
		"refuses an empty file":               {"", 0, []string{"is empty", "write a workflow"}},
		"refuses a file of comments":          {"# nothing\n", 0, []string{"is empty"}},
		"refuses broken syntax with its line": {"id: w\ntasks:\n  - id: [\n", 3, []string{"is not YAML", "mend the syntax"}},
		"refuses a tab as indentation":        {"id: w\ntasks:\n\t- id: a\n", 3, []string{"is not YAML"}},
		"refuses a scalar":                    {"hello\n", 1, []string{`w.yaml:1: is text, "hello"; it needs a mapping with description, env, id, tasks or with`}},
		"refuses two documents":               {"id: w\ntasks: [" + list1 + "]\n---\nid: v\n", 0, []string{"more than one document"}},
		"refuses a field it does not know":    {"id: w\nagents: []\n", 2, []string{"agents: unknown field", "use description, env, id, tasks or with"}},
		"refuses a task field it does not":    {"id: w\ntasks:\n  - id: a\n    kind: basic\n", 4, []string{"kind: unknown field", "type"}},
		"refuses a field twice":               {"id: w\nid: v\n", 2, []string{"already defined"}},
		"refuses a missing workflow id":       {"tasks: [" + list1 + "]\n", 1, []string{"id: is missing", "use 1 to 64 letters"}},
		"refuses an empty id":                 {"id: \"\"\ntasks: [" + list1 + "]\n", 1, []string{"id: is missing or empty"}},
		"refuses a null id":                   {"id:\ntasks: [" + list1 + "]\n", 1, []string{"id: is missing or empty"}},
		"refuses a list as an id":             {"id: [w]\n", 1, []string{"id: is a list; it needs text"}},
		"refuses braces in an id":             {"id: w\ntasks: [{ id: 'a{b}', type: basic }]\n", 2, []string{"tasks[0].id", `has the character '{'`, "letters, digits"}},
		"refuses a colon in an id":            {"id: 'a:b'\n", 1, []string{"id: ", `has the character ':'`}},
		"refuses a star in an id":             {"id: 'a*b'\n", 1, []string{`has the character '*'`}},
		"refuses a question mark in an id":    {"id: 'a?b'\n", 1, []string{`has the character '?'`}},
		"refuses brackets in an id":           {"id: 'a[b]'\n", 1, []string{`has the character '['`}},
		"refuses a newline in an id":          {"id: \"a\\nb\"\n", 1, []string{`has the character '\n'`}},
		"refuses a zero byte in an id":        {"id: \"a\\0b\"\n", 1, []string{`has the character '\x00'`}},
		"refuses an id of 10 kB":              {"id: " + long + "\n", 1, []string{"id: ", "is 10000 bytes long", "use 1 to 64"}},
		"refuses no tasks":                    {"id: w\n", 1, []string{"tasks: there are no tasks"}},
		"refuses an empty list of tasks":      {"id: w\ntasks: []\n", 2, []string{"tasks: there are no tasks"}},
		"refuses one id for two tasks":        {"id: w\ntasks:\n  - " + list1 + "\n  - " + list1 + "\n", 4, []string{"tasks[1].id", "is the id of tasks[0] already"}},
		"refuses a child's id that is taken":  {"id: w\ntasks:\n  - id: a\n    type: parallel\n    tasks: [" + list1 + "]\n", 5, []string{"tasks[0].tasks[0].id", "is the id of tasks[0] already"}},
		"refuses a missing type":              {"id: w\ntasks: [{ id: a }]\n", 2, []string{"tasks[0].type: unknown task type", "use basic, router"}},
		"refuses an unknown type":             {"id: w\ntasks:\n  - id: a\n    type: wait\n", 4, []string{`tasks[0].type: unknown task type "wait"`, "use basic, router, parallel, collection or aggregate"}},
		"refuses a missing tool":              {"id: w\ntasks: [{ id: a, type: basic }]\n", 2, []string{"tasks[0].tool.id: is missing", "name one of inspect_package"}},
		"refuses a wrong set of parameters":   {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { txt: y } }]\n", 2, []string{"tasks[0].with: has txt", "give the tool list_packages exactly tree"}},
		"refuses an edge of a child":          {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: basic, on_success: { next: a } }] }]\n", 2, []string{"tasks[0].tasks[0]", "put on_success and on_error on the task around it"}},
		"refuses negative attempts":           {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, retry: { max_attempts: -1 } }]\n", 2, []string{"tasks[0].retry.max_attempts: is out of bounds"}},
		"refuses an alias to itself":          {"id: w\ntasks: &a [*a]\n", 2, []string{"is a list; it needs a mapping with"}},
		"refuses an unknown tool":             {"id: w\ntasks: [{ id: a, type: basic, tool: { id: rm } }]\n", 2, []string{`tasks[0].tool.id: there is no tool "rm"`, "list_packages"}},
		"refuses a tool as text":              {"id: w\ntasks: [{ id: a, type: basic, tool: echo }]\n", 2, []string{`tool: is text, "echo"; it needs a mapping with id`}},
		"refuses a long text for a list":      {"id: w\ntasks: a text that goes on for long\n", 2, []string{"tasks: is text, \"a text ", "it needs a list"}},
		"refuses text for a mapping":          {"id: w\nenv: x\n", 2, []string{`env: is text, "x"; it needs a mapping, like {name: value}`}},
		"refuses routes on a basic task":      {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, routes: { x: a } }]\n", 2, []string{"tasks[0].routes: is not for the type basic", "router"}},
		"refuses a next that leads nowhere":   {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: b } }]\n", 2, []string{"tasks[0].on_success.next", `there is no task "b"`}},
		"refuses an error edge to nowhere":    {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_error: { next: b } }]\n", 2, []string{"tasks[0].on_error.next", `there is no task "b"`}},
		"refuses a route that leads nowhere":  {"id: w\ntasks: [{ id: a, type: router, condition: x, routes: { x: b } }]\n", 2, []string{"tasks[0].routes.x", `there is no task "b"`}},
		"refuses a task that leads to itself": {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: a } }]\n", 2, []string{"tasks[0].on_success.next: closes the cycle a -> a"}},
		"refuses a cycle":                     {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: a } }\n", 4, []string{"tasks[1].on_success.next: closes the cycle a -> b -> a", "let it lead to a later task"}},
		"refuses a cycle over an error edge":  {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: b } }\n  - { id: b, type: basic, tool: { id: list_packages }, with: { tree: x }, on_error: { next: a } }\n", 4, []string{"tasks[1].on_error.next: closes the cycle"}},
		"refuses a cycle over a route":        {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, on_success: { next: b } }\n  - { id: b, type: router, condition: x, routes: { default: a } }\n", 4, []string{"tasks[1].routes.default: closes the cycle"}},
		"refuses a task nothing leads to":     {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: list_packages }, with: { tree: x } }\n  - { id: b, type: basic, tool: { id: list_packages }, with: { tree: x } }\n", 4, []string{`tasks[1]: no task leads to "b"`, "remove it"}},
		"refuses an edge to a child":          {"id: w\ntasks:\n  - { id: p, type: parallel, tasks: [" + list1 + "], on_success: { next: a } }\n", 3, []string{"on_success.next", `there is no task "a"`}},
		"refuses a router without condition":  {"id: w\ntasks: [{ id: a, type: router, routes: { x: b } }]\n", 2, []string{"tasks[0].condition: is missing"}},
		"refuses a collection without items":  {"id: w\ntasks: [{ id: a, type: collection }]\n", 2, []string{"tasks[0].items: is missing"}},
		"refuses a collection without task":   {"id: w\ntasks: [{ id: a, type: collection, items: [1] }]\n", 2, []string{"tasks[0].task: is missing"}},
		"refuses a router as a child":         {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: router }] }]\n", 2, []string{"tasks[0].tasks[0]", "a child is basic and leads nowhere"}},
		"refuses an unknown type of a child":  {"id: w\ntasks: [{ id: a, type: parallel, tasks: [{ id: b, type: wait }] }]\n", 2, []string{`tasks[0].tasks[0].type: unknown task type "wait"`}},
		"refuses too many workers":            {"id: w\ntasks: [{ id: p, type: parallel, max_workers: 65, tasks: [" + list1 + "] }]\n", 2, []string{"tasks[0].max_workers: is out of bounds", "at most 64"}},
		"refuses a timeout without a unit":    {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, timeout: 30 }]\n", 2, []string{`timeout: is a number, "30"; it needs a time like 30s or 5m`}},
		"refuses a negative timeout":          {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, timeout: -1s }]\n", 2, []string{"tasks[0].timeout: is out of bounds"}},
		"refuses attempts that are no number": {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, retry: { max_attempts: many } }]\n", 2, []string{`max_attempts: is text, "many"; it needs a whole number`}},
		"refuses text for a boolean":          {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: x }, critical: 'true' }]\n", 2, []string{`critical: is text, "true"; it needs true or false`}},
		"refuses a number without JSON form":  {"id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: .inf } }]\n", 2, []string{"tasks[0]", "has no JSON form"}},
		"refuses a config over the limit":     {"id: w\ntasks:\n  - { id: a, type: basic, tool: { id: list_packages }, with: { tree: " + strings.Repeat("x", 1<<20) + " } }\n", 3, []string{"tasks[0]", "over the limit of 1048576", "put the data in a file"}},
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
			_, err := Load(c.path)
			if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 500 {
				t.Errorf("Load = %.500v; want %q", err, c.says)
			}
		})
	}
}

func TestNormalizedConfigsAreCompleteInThemselves(t *testing.T) {
	t.Parallel()
	w, err := parse(`
id: w
with: { dir: /src, n: 1 }
env: { A: workflow, B: workflow }
tasks:
  - id: p
    type: parallel
    env: { B: task, C: task }
    tasks:
      - { id: c, type: basic, tool: { id: list_packages }, env: { C: child }, with: { tree: "{{ .env.A }} {{ .env.B }} {{ .env.C }} {{ .with.dir }}" } }
    on_success: { next: s }
  - id: s
    type: collection
    max_workers: 1
    items: [x, { y: 1 }]
    task: { type: basic, tool: { id: ledger_append }, with: { out: "{{ .with.dir }}", key: "{{ .item }}", entry: ["{{ .index }}", "no. {{ .index }}"] }, timeout: 2s, retry: { max_attempts: 7 } }
`)
	if err != nil {
		t.Fatal(err)
	}
	p, s := &w.Tasks[0], &w.Tasks[1]
	if p.Timeout != 5*time.Minute || p.Retry != (Retry{3, time.Second}) || p.MaxWorkers != 8 || s.MaxWorkers != 1 {
		t.Errorf("defaults: %+v", p)
	}
	children, err := p.Children(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := children[0].With["tree"]; got != "workflow task child /src" {
		t.Errorf("the child's text is %q", got)
	}
	if p.Tasks[0].Rendered || !children[0].Rendered {
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
	for _, want := range []string{`"id":"s.2"`, `"key":{"y":1}`, `"entry":[1,"no. 1"]`, `"timeout":2000000000`, `"max_attempts":7`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
}

func TestNeedsNamesWhatTemplatesRead(t *testing.T) {
	t.Parallel()
	w, err := parse(`
id: w
tasks:
  - id: s
    type: collection
    items: "{{ .tasks.one.output.items }}"
    task: { type: basic, description: "{{ .tasks.two.error }}", tool: { id: list_packages }, with: { tree: ["{{.tasks.three-3.output}}"] } }
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.Tasks[0].Needs(), " "); got != "one three-3 two" {
		t.Errorf("Needs = %q", got)
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
    items: [tricky]
    task: { type: basic, tool: { id: list_packages }, with: { tree: "{{ .item }}" } }
`)
	if err != nil {
		t.Fatal(err)
	}
	children, err := w.Tasks[0].Children(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	children[0].With["tree"] = "{{ .with.secret }}" // as if an item had said so
	resolved, err := children[0].Resolve(nil)
	if err != nil || resolved.With["tree"] != "{{ .with.secret }}" {
		t.Errorf("a child's value was rendered again: %v, %v", resolved.With, err)
	}
}
