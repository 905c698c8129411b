package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCountFunctionsSeesDeclarationsOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		src              string
		functions, tests int
	}{
		"a function":                {"package p\nfunc f() {}\n", 1, 0},
		"a method":                  {"package p\nfunc (t T) TestM() {}\n", 1, 0},
		"a generic function":        {"package p\nfunc F[T any](x T) T { return x }\n", 1, 0},
		"a body that is elsewhere":  {"package p\nfunc asm(x int) int\nfunc g() {}\n", 2, 0},
		"several on a line":         {"package p; func f() {}; func g() {}\n", 2, 0},
		"no literal":                {"package p\nvar f = func() {}\nvar g = []func(){\nfunc() {},\n}\n", 0, 0},
		"no type":                   {"package p\ntype F func()\ntype I interface {\nf() func()\n}\n", 0, 0},
		"no text":                   {"package p\nconst s = `\nfunc f() {}\n`\n// func g() {}\n/*\nfunc h() {}\n*/\n", 0, 0},
		"nothing inside a function": {"package p\nfunc f() {\nfunc() {}()\n}\n", 1, 0},
		"tests by their names":      {"package p\nfunc TestA() {}\nfunc Test() {}\nfunc Testa() {}\nfunc TestMain() {}\nfunc Test_a() {}\nfunc TestÄ() {}\nfunc Testä() {}\n", 7, 4},
		"an empty file":             {"", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if functions, tests := countFunctions([]byte(c.src)); functions != c.functions || tests != c.tests {
				t.Errorf("%d functions, %d tests; want %d, %d", functions, tests, c.functions, c.tests)
			}
		})
	}
}

// fixture is a tree and the right report on it, as a workflow would leave it.
func fixture(t *testing.T) (tree, file string, r Report) {
	t.Helper()
	tree = t.TempDir()
	write(t, tree, "a.go", "package a\n\nfunc A() {} // TODO\n")
	write(t, tree, "a_test.go", "package a\n\nfunc TestA() {}\n")
	write(t, tree, "b/b.go", "package b")
	write(t, tree, "b/notes.txt", "TODO\n")
	write(t, tree, ".git/x.go", "package x")
	file = filepath.Join(tree, "out", "report.json")
	counted, err := Count(tree, filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	r.Packages = []Package{counted.Packages["."], counted.Packages["b"]}
	r.Totals.Packages, r.Totals.Files, r.Totals.Lines, r.Totals.Functions, r.Totals.Tests = 2, 3, 7, 2, 1
	r.Kinds.Files, r.Kinds.Bytes, r.Kinds.Kinds = 4, counted.Bytes, map[string]int{".go": 3, ".txt": 1}
	r.Markers = map[string]int{"TODO": 1, "FIXME": 0}
	return tree, file, r
}

func save(t *testing.T, file string, r Report) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(file), filepath.Base(file), string(data))
}

func TestCompareAcceptsARightReport(t *testing.T) {
	t.Parallel()
	tree, file, r := fixture(t)
	save(t, file, r)
	got, err := Compare(file, tree)
	if err != nil || len(got.Differences) > 0 {
		t.Errorf("Compare = %+v, %v", got, err)
	}
	if got.Counted != "2 packages, 3 files, 7 lines, 2 functions, 1 tests" {
		t.Errorf("counted %q", got.Counted)
	}
}

func TestCompareShowsEveryDifference(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(put func(name, content string), tree string, r *Report)
		says   string
	}{
		"a line that was added to the tree":    {func(put func(name, content string), _ string, _ *Report) { put("b/b.go", "package b\n//") }, "package b: the report says"},
		"a byte that was changed in the tree":  {func(put func(name, content string), _ string, _ *Report) { put("b/b.go", "package c") }, "sha256"},
		"a package that was added to the tree": {func(put func(name, content string), _ string, _ *Report) { put("c/c.go", "package c") }, "package c: the report says nothing"},
		"a package that was removed":           {func(_ func(name, content string), tree string, _ *Report) { _ = os.RemoveAll(filepath.Join(tree, "b")) }, "package b is in the report, not in the tree"},
		"a file of another kind":               {func(put func(name, content string), _ string, _ *Report) { put("x.md", "") }, "files of the kind .md: the report says 0, counted 1"},
		"a marker that was added":              {func(put func(name, content string), _ string, _ *Report) { put("b/b.go", "package b // FIXME") }, "lines with FIXME: the report says 0, counted 1"},
		"a wrong total":                        {func(_ func(name, content string), _ string, r *Report) { r.Totals.Tests++ }, "tests: the report says 2, counted 1"},
		"a package twice": {func(_ func(name, content string), _ string, r *Report) {
			r.Packages = append(r.Packages, r.Packages[0])
		}, "package . is in the report twice"},
		"no packages": {func(_ func(name, content string), _ string, r *Report) { r.Packages = nil }, "package .: the report says nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, file, r := fixture(t)
			c.change(func(name, content string) { write(t, tree, name, content) }, tree, &r)
			save(t, file, r)
			got, err := Compare(file, tree)
			if err != nil || !strings.Contains(strings.Join(got.Differences, "\n"), c.says) {
				t.Errorf("Compare = %q, %v; want %q", got.Differences, err, c.says)
			}
		})
	}
}

func TestCompareFollowsTheLedger(t *testing.T) {
	t.Parallel()
	const (
		first  = `{"seq":1,"prev":"","fence":5,"key":"."}` + "\n"
		second = `{"seq":2,"prev":"PREV","fence":6,"key":"b"}` + "\n"
	)
	of := func(line string) string { return hash([]byte(line)) }
	right := strings.Replace(second, "PREV", of(first), 1)
	for name, c := range map[string]struct {
		ledger, head, says string
	}{
		"a chain":                      {first + right, of(right), ""},
		"a lost line":                  {first, of(first), "lines of the ledger: the report says 2, counted 1"},
		"a line that follows another":  {first + second, of(second), "ledger line 2 does not follow"},
		"a fence that does not rise":   {first + strings.Replace(right, `"fence":6`, `"fence":5`, 1), "x", "ledger line 2: its fence 5 is not above 5"},
		"another end than in the file": {first + right, "x", "head is not the hash"},
		"a line that is not JSON":      {first + "x\n", "x", "ledger line 2:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, file, r := fixture(t)
			r.Ledger = &Ledger{File: "l.jsonl", Entries: 2, Head: c.head}
			save(t, file, r)
			write(t, filepath.Dir(file), "l.jsonl", c.ledger)
			got, err := Compare(file, tree)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(got.Differences, "\n"); c.says == "" && all != "" || !strings.Contains(all, c.says) {
				t.Errorf("differences %q; want %q", all, c.says)
			}
		})
	}
}
