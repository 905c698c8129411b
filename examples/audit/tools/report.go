package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ReportName is the file that write_report leaves in the out directory, beside
// a short text of the same name.
const ReportName = "report.json"

type reportInput struct {
	Out      string         `json:"out"`
	Title    string         `json:"title"`
	Tree     string         `json:"tree"`
	Packages []packageFacts `json:"packages"`
	Totals   totals         `json:"totals"`
	Kinds    kindsOutput    `json:"kinds,omitzero"`
	Markers  map[string]int `json:"markers,omitempty"`
}

type totals struct {
	Count     int `json:"count"` // packages
	Files     int `json:"files"`
	Lines     int `json:"lines"`
	Functions int `json:"functions"`
	Tests     int `json:"tests"`
}

// report is what report.json holds.
type report struct {
	Title      string         `json:"title"`
	WorkflowID string         `json:"workflow_id"`
	Tree       string         `json:"tree"`
	Totals     totals         `json:"totals"`
	Packages   []packageFacts `json:"packages"`
	Kinds      kindsOutput    `json:"kinds"`
	Markers    map[string]int `json:"markers"`
	Ledger     *ledgerFacts   `json:"ledger,omitempty"`
}

type ledgerFacts struct {
	File    string `json:"file"`
	Entries int    `json:"entries"`
	Head    string `json:"head"` // SHA-256 of the last line
}

type reportOutput struct {
	Report   string `json:"report"`
	Packages int    `json:"packages"`
}

// writeReport writes the report, the text first: a report.json means that both
// are there.
func writeReport(_ context.Context, call Call, in reportInput) (reportOutput, error) {
	r := report{
		Title: in.Title, WorkflowID: call.WorkflowID, Tree: in.Tree,
		Totals: in.Totals, Packages: in.Packages, Kinds: in.Kinds, Markers: in.Markers,
	}
	var err error
	if r.Ledger, err = readLedger(in.Out, call.WorkflowID); err != nil {
		return reportOutput{}, err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return reportOutput{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	file := filepath.Join(in.Out, ReportName)
	if err := replace(strings.TrimSuffix(file, ".json")+".txt", []byte(r.text())); err != nil {
		return reportOutput{}, err
	}
	return reportOutput{Report: file, Packages: len(r.Packages)}, replace(file, append(data, '\n'))
}

func readLedger(out, workflowID string) (*ledgerFacts, error) {
	name := ledgerName(workflowID)
	data, err := os.ReadFile(filepath.Join(out, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines, err := parseLedger(data)
	return &ledgerFacts{File: name, Entries: len(lines), Head: head(data)}, err
}

// text is the report for people: totals, then the largest packages.
func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", r.Title, r.Tree)
	fmt.Fprintf(&b, "%d packages, %d files, %d lines, %d functions, %d tests\n\n",
		r.Totals.Count, r.Totals.Files, r.Totals.Lines, r.Totals.Functions, r.Totals.Tests)
	largest := slices.SortedFunc(slices.Values(r.Packages), func(a, b packageFacts) int { return b.Lines - a.Lines })
	for _, p := range largest[:min(len(largest), 10)] {
		fmt.Fprintf(&b, "%8d lines %6d functions %5d tests  %s\n", p.Lines, p.Functions, p.Tests, p.Package)
	}
	if len(r.Markers) > 0 {
		b.WriteString("\n")
	}
	for _, word := range slices.Sorted(maps.Keys(r.Markers)) {
		fmt.Fprintf(&b, "%8d lines with %s\n", r.Markers[word], word)
	}
	return b.String()
}
