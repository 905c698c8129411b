package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Report is the part of report.json that can be counted again.
type Report struct {
	WorkflowID string `json:"workflow_id"`
	Totals     struct {
		Packages  int `json:"count"`
		Files     int `json:"files"`
		Lines     int `json:"lines"`
		Functions int `json:"functions"`
		Tests     int `json:"tests"`
	} `json:"totals"`
	Packages []Package `json:"packages"`
	Kinds    struct {
		Files int            `json:"files"`
		Bytes int64          `json:"bytes"`
		Kinds map[string]int `json:"kinds"`
	} `json:"kinds"`
	Markers map[string]int `json:"markers"`
	Ledger  *Ledger        `json:"ledger"`
}

// Ledger is what the report says of its ledger.
type Ledger struct {
	File    string `json:"file"` // beside the report
	Entries int    `json:"entries"`
	Head    string `json:"head"` // SHA-256 of the last line
}

// Result says how a report compares with the tree.
type Result struct {
	WorkflowID  string   // of the workflow that wrote the report
	Counted     string   // what was counted, in words
	Differences []string // empty if the report is right
}

// Compare counts the tree and compares the report in file with it. Parts that
// a workflow left out of its report (kinds, markers, ledger) are not compared.
// Files in the report's own directory are no part of the tree.
func Compare(file, tree string) (Result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Result{}, err
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Result{}, fmt.Errorf("%s: %w", file, err)
	}
	counted, err := Count(tree, filepath.Dir(file))
	if err != nil {
		return Result{}, err
	}
	var d differences
	sum := d.packages(r, counted)
	if r.Kinds.Kinds != nil {
		d.numbers("files of all kinds", r.Kinds.Files, counted.Files)
		d.numbers("bytes of all files", int(r.Kinds.Bytes), int(counted.Bytes))
		d.tables("files of the kind", r.Kinds.Kinds, counted.Kinds)
	}
	markers, err := counted.countMarkers(r.Markers)
	if err != nil {
		return Result{}, err
	}
	d.tables("lines with", r.Markers, markers)
	if r.Ledger != nil {
		if err := d.ledger(r, filepath.Dir(file)); err != nil {
			return Result{}, err
		}
	}
	return Result{
		WorkflowID: r.WorkflowID,
		Counted: fmt.Sprintf("%d packages, %d files, %d lines, %d functions, %d tests",
			len(counted.Packages), sum.Files, sum.Lines, sum.Functions, sum.Tests),
		Differences: d,
	}, nil
}

type differences []string

func (d *differences) add(format string, args ...any) { *d = append(*d, fmt.Sprintf(format, args...)) }

func (d *differences) numbers(what string, reported, counted int) {
	if reported != counted {
		d.add("%s: the report says %d, counted %d", what, reported, counted)
	}
}

func (d *differences) tables(what string, reported, counted map[string]int) {
	names := maps.Clone(reported)
	maps.Copy(names, counted)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d.numbers(what+" "+name, reported[name], counted[name])
	}
}

func (d *differences) packages(r Report, counted *Tree) (sum Package) {
	reported := map[string]Package{}
	for _, p := range r.Packages {
		if _, twice := reported[p.Package]; twice {
			d.add("package %s is in the report twice", p.Package)
		}
		reported[p.Package] = p
	}
	for _, name := range slices.Sorted(maps.Keys(counted.Packages)) {
		got, want := reported[name], counted.Packages[name]
		delete(reported, name)
		if got != want {
			d.add("package %s: the report says %s, counted %s", name, got, want)
		}
		sum.Files += want.Files
		sum.Lines += want.Lines
		sum.Functions += want.Functions
		sum.Tests += want.Tests
	}
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		d.add("package %s is in the report, not in the tree", name)
	}
	d.numbers("packages", r.Totals.Packages, len(counted.Packages))
	d.numbers("files", r.Totals.Files, sum.Files)
	d.numbers("lines", r.Totals.Lines, sum.Lines)
	d.numbers("functions", r.Totals.Functions, sum.Functions)
	d.numbers("tests", r.Totals.Tests, sum.Tests)
	return sum
}

// String shows a package for a difference.
func (p Package) String() string {
	if p.SHA256 == "" {
		return "nothing"
	}
	return fmt.Sprintf("%d files, %d lines, %d functions, %d tests, sha256 %.8s", p.Files, p.Lines, p.Functions, p.Tests, p.SHA256)
}

// ledger follows the chain of hashes: one line per package, in an order that
// two writers at a time could not have left.
func (d *differences) ledger(r Report, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, filepath.Base(r.Ledger.File)))
	if err != nil {
		return err
	}
	prev, n, fence, keys := "", 0, uint64(0), map[string]bool{}
	for line := range bytes.Lines(data) {
		n++
		var l struct {
			Seq   int    `json:"seq"`
			Prev  string `json:"prev"`
			Fence uint64 `json:"fence"`
			Key   string `json:"key"`
		}
		switch err := json.Unmarshal(line, &l); {
		case err != nil:
			d.add("ledger line %d: %v", n, err)
		case l.Seq != n || l.Prev != prev:
			d.add("ledger line %d does not follow the line before it", n)
		case l.Fence <= fence:
			d.add("ledger line %d: its fence %d is not above %d", n, l.Fence, fence)
		}
		prev, fence, keys[l.Key] = hash(line), l.Fence, true
	}
	d.numbers("lines of the ledger", r.Ledger.Entries, n)
	d.numbers("keys of the ledger", len(keys), len(r.Packages))
	if r.Ledger.Head != prev {
		d.add("ledger: the report's head is not the hash of its last line")
	}
	return nil
}
