package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// Package is what is known of one directory of Go files, or of all.
type Package struct {
	Package   string `json:"package"`
	Files     int    `json:"files"`
	Lines     int    `json:"lines"`
	Functions int    `json:"functions"`
	Tests     int    `json:"tests"`
	SHA256    string `json:"sha256"`
}

// Report is what is compared of a report.
type Report struct {
	WorkflowID string    `json:"workflow_id"`
	Totals     Package   `json:"totals"`
	Packages   []Package `json:"packages"`
}

// Compare counts the tree and lists where the report differs from it. If there
// is a ledger, its chain is followed as well.
func Compare(r Report, tree, ledger string) (differences []string, err error) {
	counted, err := count(tree)
	if err != nil {
		return nil, err
	}
	differ := func(what string, reported, counted any) {
		if reported != counted {
			differences = append(differences, fmt.Sprintf("%s: the report says %+v, counted %+v", what, reported, counted))
		}
	}
	differ("packages", len(r.Packages), len(counted))
	reported, total := map[string]Package{}, Package{}
	for _, p := range r.Packages {
		reported[p.Package] = p
	}
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		p := counted[name]
		differ("package "+name, reported[name], p)
		total.Files += p.Files
		total.Lines += p.Lines
		total.Functions += p.Functions
		total.Tests += p.Tests
	}
	differ("in all", r.Totals, total)
	data, err := os.ReadFile(ledger)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	differ("lines of the ledger that follow each other", bytes.Count(data, []byte("\n")), chain(data))
	return differences, nil
}

// chain follows the ledger's hashes and fences, an order that two writers at a
// time could not have left, and counts the lines up to the first that breaks
// it.
func chain(ledger []byte) (n int) {
	prev, fence := "", uint64(0)
	for line := range bytes.Lines(ledger) {
		var l struct {
			Seq   int
			Prev  string
			Fence uint64
		}
		if err := json.Unmarshal(line, &l); err != nil || l.Seq != n+1 || l.Prev != prev || l.Fence <= fence {
			return n
		}
		prev, fence, n = fmt.Sprintf("%x", sha256.Sum256(line)), l.Fence, n+1
	}
	return n
}
