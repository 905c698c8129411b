package check

import (
	"crypto/sha256"
	"fmt"
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
			var got Package
			if got.add([]byte(c.src), true); got.Functions != c.functions || got.Tests != c.tests {
				t.Errorf("%d functions, %d tests; want %d, %d", got.Functions, got.Tests, c.functions, c.tests)
			}
		})
	}
}

// fixture is a tree and the right report on it.
func fixture(t *testing.T) (tree string, r Report) {
	t.Helper()
	tree = t.TempDir()
	write(t, tree, "a.go", "package a\n\nfunc A() {} // TODO\n")
	write(t, tree, "a_test.go", "package a\n\nfunc TestA() {}\n")
	write(t, tree, "b/b.go", "package b")
	write(t, tree, "b/notes.txt", "TODO\n")
	write(t, tree, ".git/x.go", "package x")
	counted, err := count(tree)
	if err != nil {
		t.Fatal(err)
	}
	r.Packages = []Package{counted["."], counted["b"]}
	r.Totals = Package{Files: 3, Lines: 7, Functions: 2, Tests: 1}
	return tree, r
}

func compare(t *testing.T, r Report, tree, ledger string) string {
	t.Helper()
	differences, err := Compare(r, tree, ledger)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(differences, "\n")
}

func TestCompareAcceptsARightReport(t *testing.T) {
	t.Parallel()
	tree, r := fixture(t)
	if got := compare(t, r, tree, "none"); got != "" {
		t.Error(got)
	}
}

func TestCompareShowsEveryDifference(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(put func(name, content string), tree string, r *Report)
		says   string
	}{
		"a line that was added to the tree":    {func(put func(name, content string), _ string, _ *Report) { put("b/b.go", "package b\n//") }, "package b: the report says"},
		"a byte that was changed in the tree":  {func(put func(name, content string), _ string, _ *Report) { put("b/b.go", "package c") }, "package b: the report says"},
		"a package that was added to the tree": {func(put func(name, content string), _ string, _ *Report) { put("c/c.go", "package c") }, "package c: the report says"},
		"a package that was removed":           {func(_ func(name, content string), tree string, _ *Report) { _ = os.RemoveAll(filepath.Join(tree, "b")) }, "packages: the report says 2, counted 1"},
		"a wrong total":                        {func(_ func(name, content string), _ string, r *Report) { r.Totals.Tests++ }, "in all: the report says"},
		"a package twice": {func(_ func(name, content string), _ string, r *Report) {
			r.Packages = append(r.Packages, r.Packages[0])
		}, "packages: the report says 3, counted 2"},
		"one package twice, another not": {func(_ func(name, content string), _ string, r *Report) { r.Packages[1] = r.Packages[0] }, "package b: the report says"},
		"no packages":                    {func(_ func(name, content string), _ string, r *Report) { r.Packages = nil }, "package .: the report says"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, r := fixture(t)
			c.change(func(name, content string) { write(t, tree, name, content) }, tree, &r)
			if got := compare(t, r, tree, "none"); !strings.Contains(got, c.says) {
				t.Errorf("Compare = %q; want %q", got, c.says)
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
	right := strings.Replace(second, "PREV", fmt.Sprintf("%x", sha256.Sum256([]byte(first))), 1)
	for name, c := range map[string]struct {
		ledger string
		good   string // lines
	}{
		"a chain":                     {first + right, ""},
		"a lost line":                 {right, "says 1, counted 0"},
		"a line that follows another": {first + second, "says 2, counted 1"},
		"a fence that does not rise":  {first + strings.Replace(right, `"fence":6`, `"fence":5`, 1), "says 2, counted 1"},
		"a line that is not JSON":     {first + "x\n", "says 2, counted 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, r := fixture(t)
			write(t, tree, "l.jsonl", c.ledger)
			if got := compare(t, r, tree, filepath.Join(tree, "l.jsonl")); c.good == "" && got != "" || !strings.Contains(got, c.good) {
				t.Errorf("differences %q; want %q", got, c.good)
			}
		})
	}
}
