package flow

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
)

func parse(t *testing.T, dir, yaml string) *spec.Workflow {
	t.Helper()
	w, err := spec.Parse("w.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	w.With["tree"], w.With["out"] = dir, dir
	if err := w.Normalize(1 << 20); err != nil {
		t.Fatal(err)
	}
	return w
}

// walkThrough runs a workflow in Temporal's test environment with the plugin on
// a Redis of its own.
func walkThrough(t *testing.T, dir, yaml string) (*testsuite.WorkflowEnvironment, Result, error) {
	t.Helper()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	Register(env, env.Counters())
	in, err := Save(t.Context(), env.Store(), "default-test-workflow-id", parse(t, dir, yaml))
	if err != nil {
		t.Fatal(err)
	}
	env.ExecuteWorkflow(WorkflowName, in)
	if err := env.GetWorkflowError(); err != nil {
		return env, Result{}, err
	}
	var r Result
	if err := env.GetWorkflowResult(&r); err != nil {
		t.Fatal(err)
	}
	return env, r, nil
}

func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a/a.go", "b/b.go"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("package p\n\nfunc F() {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const inspectAll = `
id: w
tasks:
  - { id: list, type: basic, tool: { id: list_packages }, with: { tree: "{{ .with.tree }}" }, on_success: { next: each } }
  - id: each
    type: collection
    items: "{{ .tasks.list.output.packages }}"
    task: { type: basic, tool: { id: inspect_package }, with: { tree: "{{ .with.tree }}", package: "{{ .item }}" } }
    on_success: { next: all }
  - { id: all, type: aggregate, collect: [each, list], on_success: { next: keep } }
  - id: keep
    type: basic
    critical: true
    tool: { id: ledger_append }
    with: { out: "{{ .with.out }}", key: totals, entry: { sums: "{{ .tasks.all.output }}", first: "{{ .tasks.each.output.items }}" } }
`

func TestWorkflowWalksItsTasks(t *testing.T) {
	t.Parallel()
	dir := sources(t)
	env, r, err := walkThrough(t, dir, inspectAll)
	if err != nil {
		t.Fatal(err)
	}
	if r.Tasks != 7 || r.Configs != 7 || r.ConfigBytes <= r.RefBytes {
		t.Errorf("result %+v", r)
	}
	stored := 0
	for _, err := range env.Store().Scan(t.Context(), redisstate.Scope{Workflow: "default-test-workflow-id"}) {
		if err != nil {
			t.Fatal(err)
		}
		stored++
	}
	if stored != r.Configs {
		t.Errorf("%d configs are stored, the result says %d", stored, r.Configs)
	}
	data, err := os.ReadFile(filepath.Join(dir, "ledger-default-test-workflow-id.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Fence uint64 `json:"fence"`
		Entry struct {
			Sums struct {
				Each struct {
					Count int            `json:"count"`
					Items map[string]int `json:"items"`
				} `json:"each"`
				List map[string]any `json:"list"`
			} `json:"sums"`
			First []map[string]any `json:"first"`
		} `json:"entry"`
	}
	if err := json.Unmarshal(data, &line); err != nil {
		t.Fatal(err)
	}
	each := line.Entry.Sums.Each
	if line.Fence == 0 || each.Count != 2 || each.Items["functions"] != 2 || each.Items["lines"] != 6 || each.Items["count"] != 2 {
		t.Errorf("ledger %s", data)
	}
	if len(line.Entry.First) != 2 || line.Entry.First[1]["package"] != "b" {
		t.Errorf("the collection's outputs are not in the order of its items: %v", line.Entry.First)
	}
}

func TestWorkflowFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, says string }{
		"when a tool fails": {
			"tasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: /none } }]",
			"task a: list_packages: unusable input: tree:",
		},
		"when a child fails": {
			"tasks: [{ id: a, type: collection, items: [x], task: { type: basic, tool: { id: list_packages }, with: { tree: '{{ .item }}' } } }]",
			"task a: task a.1: list_packages:",
		},
		"when a router has no route": {
			"tasks: [{ id: a, type: router, condition: x, routes: { y: b } }, { id: b, type: basic, tool: { id: list_packages }, with: { tree: . } }]",
			`task a: no route for "x", and no default`,
		},
		"when items are not a list": {
			"tasks: [{ id: a, type: collection, items: '{{ .with.tree }}', task: { type: basic, tool: { id: list_packages }, with: { tree: . } } }]",
			"task a: items: this is a string, not a list",
		},
		"when a template leads nowhere": {
			"tasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: '{{ .with.tree.x }}' } }]",
			"task a: a: with: tree: there is no .with.tree.x",
		},
		"when an output is too large for history": {
			"tasks: [{ id: a, type: collection, items: ['" + strings.Repeat("x", maxOutput) + "'], task: { type: basic, tool: { id: list_packages }, with: { tree: '{{ .with.tree }}' } }, on_success: { next: b } }, { id: b, type: router, condition: '" + strings.Repeat("x", maxOutput) + "', routes: { default: c } }, { id: c, type: aggregate, collect: [a] }]",
			"task b: the output is 131074 bytes, over the limit of 131072",
		},
		"when it collects what has not run": {
			"tasks: [{ id: r, type: router, condition: x, routes: { x: b, y: a } }, { id: a, type: basic, tool: { id: list_packages }, with: { tree: . }, on_success: { next: b } }, { id: b, type: aggregate, collect: [a] }]",
			"task b: collect: a has no output",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, r, err := walkThrough(t, sources(t), "id: w\n"+c.yaml)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("result %+v, error %v; want %q", r, err, c.says)
			}
		})
	}
}

// TestARepeatedAttemptFindsItsPredecessorsOutput lets a first attempt fail (a
// file is where a directory should be) whose output is in the session already.
func TestARepeatedAttemptFindsItsPredecessorsOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(sources(t), "a", "a.go")
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	Register(env, env.Counters())
	in, err := Save(t.Context(), env.Store(), "default-test-workflow-id", parse(t, file, `
id: w
tasks:
  - { id: a, type: basic, tool: { id: ledger_append }, with: { out: "{{ .with.out }}", key: k, entry: 1 }, retry: { initial_interval: 10ms }, on_success: { next: b } }
  - { id: b, type: router, condition: "{{ .tasks.a.output.seq }}", routes: { "99": c } }
  - { id: c, type: aggregate, collect: [a] }
`))
	if err != nil {
		t.Fatal(err)
	}
	session := env.Session("default-test-workflow-id", "default-test-run-id")
	if err := session.Set(t.Context(), "a", map[string]int{"seq": 99}); err != nil {
		t.Fatal(err)
	}
	env.ExecuteWorkflow(WorkflowName, in)
	if err := env.GetWorkflowError(); err != nil {
		t.Error(err)
	}
}

// failing is a store whose Set fails after it has written.
type failing struct{ redisstate.ConfigStore }

var errFailing = errors.New("no more")

func (f *failing) Set(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error) {
	_, err := f.ConfigStore.Set(ctx, entries...)
	return nil, errors.Join(errFailing, err)
}

func TestSaveLeavesNothingWhenItFails(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	w := parse(t, t.TempDir(), inspectAll)
	stored := func(id string) (n int) {
		for _, err := range env.Store().Scan(t.Context(), redisstate.Scope{Workflow: id}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if _, err := Save(t.Context(), &failing{env.Store()}, "failed", w); !errors.Is(err, errFailing) || stored("failed") != 0 {
		t.Errorf("Save failed: %v, and %d configs stayed", err, stored("failed"))
	}
	if _, err := Save(t.Context(), env.Store(), "run", w); err != nil || stored("run") != 5 {
		t.Fatalf("%d configs, %v", stored("run"), err)
	}
	if err := Discard(t.Context(), env.Store(), "run", w); err != nil || stored("run") != 0 {
		t.Errorf("Discard left %d configs, %v", stored("run"), err)
	}
}
