package tools

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source is a tree in which every rule of the tools has a file.
var source = map[string]string{
	"main.go":              "package main\n\n// TODO: more\nfunc main() {}\n\ntype t struct{}\n\nfunc (t) m() { _ = func() {} }",
	"main_test.go":         "package main\n\nfunc TestMain() {}\nfunc TestA() {}\nfunc Testing() {}\nfunc Test() {}\nfunc (t) TestB() {}\nfunc helper() {}\n",
	"a/b/b.go":             "package b\n\nvar s = `\nfunc notOne() {}\n`\n",
	"a/b/TestNot.go":       "package b\n\nfunc TestNotOne() {}\n",
	"docs/README":          "FIXME\n",
	"vendor/v/v.go":        "package v\n",
	"testdata/broken.go":   "not Go",
	".hidden/h.go":         "package h\n",
	"_skip/s.go":           "package s\n",
	"node_modules/n/n.go":  "package n\n",
	"out/report.json":      "{}",
	"a/.gitignore":         "x\n",
	"zwölf/ü.go":           "package u\n",
	"zwölf/not-go.go.tmpl": "package ?\n",
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run runs a tool and decodes its output.
func run(t *testing.T, name string, with map[string]any) map[string]any {
	t.Helper()
	out, err := Run(t.Context(), name, Call{WorkflowID: "w", Fence: 7, With: with})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestListPackagesFindsDirectoriesWithGoFiles(t *testing.T) {
	t.Parallel()
	out := run(t, "list_packages", map[string]any{"tree": writeTree(t, source)})
	if got := fmt.Sprint(out["packages"], out["count"]); got != "[a/b . zwölf] 3" {
		t.Errorf("packages and their count: %s", got)
	}
}

func TestInspectPackageCountsWhatIsDeclared(t *testing.T) {
	t.Parallel()
	tree := writeTree(t, source)
	out := run(t, "inspect_package", map[string]any{"tree": tree, "package": "."})
	for field, want := range map[string]float64{"files": 2, "lines": 16, "functions": 8, "tests": 2} {
		if out[field] != want {
			t.Errorf("%s = %v, want %v", field, out[field], want)
		}
	}
	out = run(t, "inspect_package", map[string]any{"tree": tree, "package": "a/b"})
	if out["functions"] != 1.0 || out["tests"] != 0.0 {
		t.Errorf("a function in a text, or a test outside of a test file, was counted: %v", out)
	}
}

func TestInspectPackageHashesNamesAndContent(t *testing.T) {
	t.Parallel()
	hash := func(files map[string]string) any {
		return run(t, "inspect_package", map[string]any{"tree": writeTree(t, files), "package": "."})["sha256"]
	}
	first := hash(map[string]string{"a.go": "package a\n", "b.go": "package a\n"})
	for name, files := range map[string]map[string]string{
		"other content":     {"a.go": "package a\n", "b.go": "package a \n"},
		"another name":      {"a.go": "package a\n", "c.go": "package a\n"},
		"one file less":     {"a.go": "package a\n"},
		"the files swapped": {"a.go": "package a\n//", "b.go": "package a\n"},
	} {
		if hash(files) == first {
			t.Errorf("%s gives the same hash", name)
		}
	}
	if hash(map[string]string{"b.go": "package a\n", "a.go": "package a\n", "x.txt": "not Go"}) != first {
		t.Error("the same Go files give another hash")
	}
}

func TestToolsRefuse(t *testing.T) {
	t.Parallel()
	tree := writeTree(t, source)
	if err := os.Symlink("/", filepath.Join(tree, "root")); err != nil {
		t.Fatal(err)
	}
	broken := writeTree(t, map[string]string{"x.go": "package x\nfunc {\n"})
	for name, c := range map[string]struct {
		tool string
		with map[string]any
		says string
	}{
		"a tool that is not there":       {"rm", nil, "has no tool"},
		"a tree that is not there":       {"list_packages", map[string]any{"tree": filepath.Join(tree, "none")}, "tree"},
		"a tree that is a file":          {"list_packages", map[string]any{"tree": filepath.Join(tree, "main.go")}, "tree"},
		"an empty tree":                  {"list_packages", map[string]any{"tree": ""}, "tree"},
		"a number for a text":            {"list_packages", map[string]any{"tree": 1}, "with"},
		"a field that it does not know":  {"list_packages", map[string]any{"tree": tree, "x": 1}, "with"},
		"a package outside of the tree":  {"inspect_package", map[string]any{"tree": tree, "package": "../.."}, "package"},
		"an absolute package":            {"inspect_package", map[string]any{"tree": tree, "package": "/etc"}, "package"},
		"a package that is not there":    {"inspect_package", map[string]any{"tree": tree, "package": "none"}, "package"},
		"a Go file that does not parse":  {"inspect_package", map[string]any{"tree": broken, "package": "."}, "x.go:2:6"},
		"a report of the wrong shape":    {"write_report", map[string]any{"out": 1, "packages": "none"}, "with"},
		"a ledger that is not a ledger":  {"ledger_append", map[string]any{"out": writeTree(t, map[string]string{"ledger-w.jsonl": "x\n"}), "key": "k"}, "line 1 of the ledger"},
		"a value that has no JSON form":  {"ledger_append", map[string]any{"out": tree, "key": "k", "entry": func() {}}, "with"},
		"a path that is not in the tree": {"inspect_package", map[string]any{"tree": tree, "package": "a/../../x"}, "package"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Run(t.Context(), c.tool, Call{WorkflowID: "w", With: c.with})
			if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Run = %v; want ErrInput about %q", err, c.says)
			}
		})
	}
	if _, err := Run(t.Context(), "inspect_package", Call{With: map[string]any{"tree": tree, "package": "root/etc"}}); err == nil {
		t.Error("a symbolic link led out of the tree")
	}
}

func TestLedgerIsAChain(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "new", "dir")
	for i, key := range []string{"a", "b", "a"} {
		got := run(t, "ledger_append", map[string]any{"out": out, "key": key, "entry": map[string]any{"n": i}})
		if want := []float64{1, 2, 1}[i]; got["seq"] != want {
			t.Errorf("append %d of %q has the number %v, want %v", i, key, got["seq"], want)
		}
	}
	data, err := os.ReadFile(filepath.Join(out, "ledger-w.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(data), "\n")
	sum := sha256.Sum256([]byte(first + "\n"))
	if want := fmt.Sprintf(`{"seq":2,"prev":"%x","fence":7,"key":"b","entry":{"n":1}}`+"\n", sum); second != want || !strings.HasPrefix(first, `{"seq":1,"prev":"",`) {
		t.Errorf("the lines do not follow each other: %s", data)
	}
	if left, _ := filepath.Glob(filepath.Join(out, "*.tmp")); left != nil {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	facts := map[string]any{"package": "p", "lines": 2}
	got := run(t, "write_report", map[string]any{"out": out, "tree": "/src", "packages": []any{facts}, "totals": map[string]any{"lines": 2}})
	data, err := os.ReadFile(filepath.Join(out, ReportName))
	if err != nil || got["report"] != filepath.Join(out, ReportName) {
		t.Fatal(got, err)
	}
	var r struct {
		WorkflowID string `json:"workflow_id"`
		Packages   []packageFacts
		Totals     packageFacts
	}
	if err := json.Unmarshal(data, &r); err != nil || r.WorkflowID != "w" || r.Packages[0].Lines != 2 || r.Totals.Lines != 2 {
		t.Errorf("report = %s (%v)", data, err)
	}
}

// Where Redis loses the lock, its holder does not know: the fence does.
func TestLedgerRefusesAHolderWhoseLeaseIsOver(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	line := func(key string, fence uint64) error {
		_, err := Run(t.Context(), "ledger_append", Call{WorkflowID: "w", Fence: fence, With: map[string]any{"out": out, "key": key}})
		return err
	}
	if err := errors.Join(line("a", 7), line("b", 9)); err != nil {
		t.Fatal(err)
	}
	if err := line("c", 7); !errors.Is(err, errOver) || errors.Is(err, ErrInput) {
		t.Errorf("fence 7 after 9 gives %v", err)
	}
	if err := line("a", 7); err != nil {
		t.Errorf("an entry that is there gives %v", err)
	}
	if err := line("c", 10); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(filepath.Join(out, LedgerName("w")))
	if err != nil || strings.Count(string(data), "\n") != 3 {
		t.Errorf("the ledger is %s, %v", data, err)
	}
}
