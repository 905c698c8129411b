//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/compozy/temporal-redis/examples/audit/check"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/redistest"
)

// temporalServer starts a dev server for one test and returns its address.
func temporalServer(t *testing.T) string {
	t.Helper()
	server, err := devserver.Start(t.Context(), devserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server.Addr()
}

// result is what one run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

func demo(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n--- stdout\n%s--- stderr\n%s", r.code, r.stdout, r.stderr)
}

func writeFile(t *testing.T, file, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sourceTree makes a small tree with n packages beside the root's.
func sourceTree(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.go"), "package main\n\n// TODO: all\nfunc main() {}\n")
	writeFile(t, filepath.Join(dir, "main_test.go"), "package main\n\nfunc TestMain() {}\nfunc TestA() {}\n")
	for i := range n {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("p%02d", i), "p.go"), fmt.Sprintf("package p\n%s", strings.Repeat("func f() {}\n", i+1)))
	}
	return dir
}

func readReport(t *testing.T, dir string) check.Report {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r check.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// ledgerLines counts the lines of the only ledger in dir.
func ledgerLines(t *testing.T, dir string) int {
	t.Helper()
	return strings.Count(ledger(t, dir), "\n")
}

func ledger(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "ledger-*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("ledgers %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDemoReportsWhatTheTreeHolds(t *testing.T) {
	t.Parallel()
	addr := temporalServer(t)
	for name, redis := range map[string]string{
		"embedded":     "embedded://what-the-tree-holds", // the counters of other tests' runs are their own
		"redis-server": redistest.Start(t).URL(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, first, second := sourceTree(t, 12), t.TempDir(), t.TempDir()
			flags := []string{"--temporal", addr, "--redis", redis, "--tree", tree}

			got := demo(t.Context(), append(flags, "--out", first)...)
			if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "check       right, counted again by other code:\n            13 packages, 14 files, 98 lines, 81 functions, 1 tests\n") {
				t.Fatal(got)
			}
			for _, want := range []string{"tasks       35 run, 35 seen in events", "configs     36 in Redis, 0 made again", "session     29 outputs", "counters    29 tools run", "lock waits", "cache hits", "latency     publish to screen p50"} {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("the summary lacks %q: %s", want, got.stdout)
				}
			}
			before := readReport(t, first)
			if before.Totals.Functions != 81 || len(before.Packages) != 13 || ledgerLines(t, first) != 14 {
				t.Errorf("report %+v, %d lines of the ledger", before, ledgerLines(t, first))
			}

			silent := writeFile(t, filepath.Join(t.TempDir(), "w.yaml"), "id: w\ntasks: [{ id: a, type: basic, tool: { id: list_packages }, with: { tree: . } }]\n")
			if got := demo(t.Context(), append(flags, silent, "--out", first)...); got.code != exitOK || !strings.Contains(got.stdout, "report      none") {
				t.Errorf("an earlier run's report counted for this one: %v", got)
			}

			writeFile(t, filepath.Join(tree, "p03", "p.go"), "package p\n")
			if got := demo(t.Context(), append(flags, "--out", second)...); got.code != exitOK {
				t.Fatal(got)
			}
			after := readReport(t, second)
			if after.Totals.Functions != 77 || after.Totals.Lines != 94 || slices.Equal(before.Packages, after.Packages) {
				t.Errorf("the tree changed and the report did not: %+v", after.Totals)
			}
		})
	}
}

// TestDemoSurvivesAFlushedRedis empties Redis while the packages are inspected:
// with no cache in the process, every config that is still needed has to be
// made again, those of children from what Temporal's history tells.
func TestDemoSurvivesAFlushedRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	client := redis.Client(t)
	flush := func() {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Error(err)
		}
	}
	for name, at := range map[string]string{
		"while a collection runs":  "RUNNING   inspect.3",
		"while the lock is held":   "RUNNING   record.4",
		"before anything was read": "RUNNING   (plan)",
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share what is flushed
			stdout := &watcher{text: at, seen: flush}
			err := audit(t.Context(), settings{
				redis: redis.URL(), temporal: temporalServer(t), namespace: "default",
				tree: sourceTree(t, 20), out: t.TempDir(), nearCache: -1,
			}, stdout)
			out := stdout.buf.String()
			if err != nil || !strings.Contains(out, "check       right") || !strings.Contains(out, "SUCCESS   workflow") {
				t.Fatalf("%v\n%s", err, out)
			}
			if stdout.seen != nil || strings.Contains(out, "in Redis, 0 made again") {
				t.Errorf("nothing had to be made again:\n%s", out)
			}
		})
	}
}

func TestDemoStartsItsOwnServers(t *testing.T) {
	t.Parallel()
	got := demo(t.Context(), "--tree", sourceTree(t, 1), "--out", t.TempDir())
	if got.code != exitOK || !strings.Contains(got.stdout, "check       right") {
		t.Fatal(got)
	}
}

// everyKind uses what the built-in workflow does not: an error edge, a route by
// value, one child at a time.
const everyKind = `
id: every-kind
env: { KEY: look }
tasks:
  - id: breaks
    type: collection
    items: [none, nothing]
    task: { type: basic, tool: { id: inspect_package }, with: { tree: "{{ .with.tree }}", package: "{{ .item }}" } }
    on_success: { next: never }
    on_error: { next: look }
  - id: look
    type: parallel
    tasks:
      - { id: a-look, type: basic, tool: { id: list_packages }, with: { tree: "{{ .with.tree }}" } }
    on_success: { next: choose }
  - id: choose
    type: router
    condition: "{{ .tasks.look.output.a-look.count }}"
    routes: { "3": keep, default: never }
  - id: keep
    type: collection
    max_workers: 1
    items: "{{ .tasks.look.output.a-look.packages }}"
    task: { type: basic, description: "no. {{ .index }}: {{ .item }}", tool: { id: ledger_append }, with: { out: "{{ .with.out }}", key: "{{ .env.KEY }} {{ .item }}", entry: "{{ .tasks.breaks.error }}" } }
  - id: never
    type: basic
    tool: { id: list_packages }
    with: { tree: /nowhere }
`

func TestDemoRunsEveryKindOfTask(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), t.TempDir()
	file := writeFile(t, filepath.Join(dir, "w.yaml"), everyKind)
	got := demo(t.Context(), file, "--temporal", temporalServer(t), "--tree", sourceTree(t, 2), "--out", out)
	if got.code != exitOK || !strings.Contains(got.stdout, "report      none; no task of the workflow wrote one") {
		t.Fatal(got)
	}
	for _, want := range []string{"FAILED    breaks.1", `SUCCESS   choose  (final)`, "no. 2: p01", "SUCCESS   keep.3  (final)"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no event says %q:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "never") {
		t.Errorf("a task ran that nothing led to:\n%s", got.stdout)
	}
	if got := ledger(t, out); strings.Count(got, "\n") != 3 || !strings.Contains(got, "task breaks.") || !strings.Contains(got, `"key":"look p01"`) {
		t.Errorf("ledger %s", got)
	}
}

// TestConfigsStayOutOfHistory puts a secret word into a config and looks for it
// in everything that Temporal stored.
func TestConfigsStayOutOfHistory(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a9"
	addr, out := temporalServer(t), t.TempDir()
	file := writeFile(t, filepath.Join(t.TempDir(), "w.yaml"), strings.ReplaceAll(`
id: quiet
env: { SECRET: CANARY }
tasks:
  - id: list
    type: basic
    tool: { id: list_packages }
    with: { tree: "{{ .with.tree }}" }
    on_success: { next: look }
  - id: look
    type: collection
    items: "{{ .tasks.list.output.packages }}"
    task: { type: basic, tool: { id: ledger_append }, with: { out: "{{ .with.out }}", key: "{{ .item }}", entry: "{{ .env.SECRET }}" }, critical: true }
`, "CANARY", canary))
	if got := demo(t.Context(), file, "--temporal", addr, "--tree", sourceTree(t, 3), "--out", out); got.code != exitOK {
		t.Fatal(got)
	}
	if got := ledger(t, out); strings.Count(got, canary) != 4 {
		t.Fatalf("the config did not reach the tool: %s", got)
	}
	files, _ := filepath.Glob(filepath.Join(out, "ledger-*.jsonl"))
	id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(files[0]), "ledger-"), ".jsonl")
	c, err := client.Dial(client.Options{HostPort: addr, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events := 0
	for history := c.GetWorkflowHistory(t.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); history.HasNext(); events++ {
		ev, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := proto.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("event %d (%s) holds a config's content", ev.GetEventId(), ev.GetEventType())
		}
	}
	if events < 20 {
		t.Errorf("the history has %d events", events)
	}
}

func TestDemoFailsWhenATaskFails(t *testing.T) {
	t.Parallel()
	tree, out := sourceTree(t, 1), filepath.Join(t.TempDir(), "out")
	writeFile(t, filepath.Join(tree, "bad", "bad.go"), "package bad\nfunc {\n")
	got := demo(t.Context(), "--temporal", temporalServer(t), "--tree", tree, "--out", out)
	want := regexp.MustCompile(`^audit: the workflow failed: task inspect: task inspect\.\d: inspect_package: unusable input: .*bad/bad.go:2:6: .*\n$`)
	if got.code != exitFailed || !want.MatchString(got.stderr) {
		t.Fatal(got)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a report was begun")
	}
}

func TestDemoFailsWhenTheReportIsWrong(t *testing.T) {
	t.Parallel()
	file := writeFile(t, filepath.Join(t.TempDir(), "w.yaml"), `
id: wrong
tasks:
  - id: lie
    type: basic
    tool: { id: write_report }
    with: { out: "{{ .with.out }}", tree: "{{ .with.tree }}", packages: [], totals: { count: 0, files: 0, lines: 0, functions: 1, tests: 0 } }
`)
	got := demo(t.Context(), file, "--temporal", temporalServer(t), "--tree", sourceTree(t, 0), "--out", t.TempDir())
	if got.code != exitFailed || !strings.Contains(got.stderr, "the report differs from the tree in 3 places") ||
		!strings.Contains(got.stdout, "package .: the report says") {
		t.Fatal(got)
	}
}

func TestDemoRefusesAPasswordThatIsWrong(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, redistest.WithPassword("s3cret"))
	addr := temporalServer(t)
	for _, url := range []string{"redis://:wr0ng@" + redis.Addr(), "redis://" + redis.Addr()} {
		out := filepath.Join(t.TempDir(), "out")
		got := demo(t.Context(), "--redis", url, "--temporal", addr, "--out", out)
		if got.code != exitFailed || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "audit: --redis: ") || !strings.Contains(got.stderr, "check username, password") {
			t.Error(got)
		}
		if strings.Contains(got.stderr+got.stdout, "s3cret") || strings.Contains(got.stderr+got.stdout, "wr0ng") {
			t.Errorf("a password is in the output: %v", got)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("the output directory was made")
		}
	}
	nothingStarted(t, addr)
	nothingSaved(t, redis)
}

func TestBadInputLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	redis, addr := redistest.Start(t), temporalServer(t)
	for name, c := range map[string]struct{ yaml, says string }{
		"a cycle":               {strings.Replace(everyKind, "/nowhere }", "/nowhere }\n    on_success: { next: look }", 1), "closes the cycle"},
		"an unknown tool":       {strings.Replace(everyKind, "list_packages", "rm", 1), "there is no tool"},
		"a config that is huge": {strings.Replace(everyKind, "nothing]", strings.Repeat("x", 1<<20)+"]", 1), "over the limit"},
		"a namespace unknown":   {everyKind, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			file := writeFile(t, filepath.Join(t.TempDir(), "w.yaml"), c.yaml)
			flags := []string{file, "--redis", redis.URL(), "--temporal", addr, "--out", out, "--tree", t.TempDir()}
			if name == "a namespace unknown" {
				flags = append(flags, "--namespace", "unknown")
			}
			got := demo(t.Context(), flags...)
			if got.code == exitOK || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, c.says) {
				t.Error(got)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("the output directory was made")
			}
		})
	}
	nothingStarted(t, addr)
	nothingSaved(t, redis)
}

func nothingSaved(t *testing.T, redis *redistest.Server) {
	t.Helper()
	keys, err := redis.Client(t).Keys(t.Context(), "*").Result()
	keys = slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, ":@health:") }) // goes after 10 s
	if err != nil || len(keys) > 0 {
		t.Errorf("keys in Redis: %v, %v", keys, err)
	}
}

func nothingStarted(t *testing.T, addr string) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: addr, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil || len(list.GetExecutions()) > 0 {
		t.Errorf("workflows: %v, %v", list.GetExecutions(), err)
	}
}

// watcher is an output that calls seen when it has been given the text.
type watcher struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buf.Write(p)
	if w.seen != nil && strings.Contains(w.buf.String(), w.text) {
		w.seen()
		w.seen = nil
	}
	return n, err
}

func TestInterruptCancelsTheWorkflow(t *testing.T) {
	t.Parallel()
	addr := temporalServer(t)
	ctx, interrupt := context.WithCancel(t.Context())
	stdout, stderr := &watcher{text: "RUNNING   inspect.2", seen: interrupt}, &bytes.Buffer{}
	code := run(ctx, []string{"--temporal", addr, "--tree", sourceTree(t, 40), "--out", t.TempDir()}, stdout, stderr)
	if code != exitInterrupted || stderr.String() != "audit: interrupted\n" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	_, end, shown := strings.Cut(stdout.buf.String(), "CANCELED  workflow ")
	if !shown {
		t.Fatalf("the workflow's end is not shown:\n%s", stdout.buf.String())
	}
	id := strings.Fields(end)[0]
	c, err := client.Dial(client.Options{HostPort: addr, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	told, err := c.DescribeWorkflowExecution(t.Context(), id, "") // unlike lists, it is never late
	if status := told.GetWorkflowExecutionInfo().GetStatus(); err != nil || status != enums.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Errorf("Temporal says of %s: %v, %v", id, status, err)
	}
}
