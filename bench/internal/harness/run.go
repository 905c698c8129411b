//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Options say what a run does with the rows that it is given.
type Options struct {
	Settings

	// Select chooses rows by "group/key". Defaults to all.
	Select *regexp.Regexp
	// Results is the file that results are merged into. Defaults to none.
	Results string
	// Raw is the directory for samples, a file per row. Defaults to none.
	Raw string
	// Out takes progress and the table.
	Out io.Writer
}

// measured is a row that ran.
type measured struct {
	row     Row
	outcome Outcome
}

// Run measures the selected rows one after the other and prints the table. A
// row that fails does not keep the others from running; what was measured is
// kept at once.
func Run(ctx context.Context, rows []Row, o Options) error {
	if o.Rounds < MinRounds && !o.Quick {
		return fmt.Errorf("%d rounds are too few; use at least %d, or a quick run", o.Rounds, MinRounds)
	}
	selected := choose(rows, o.Select)
	if len(selected) == 0 {
		return fmt.Errorf("no row matches %s; -list shows them", o.Select)
	}
	machine := thisMachine(ctx)
	_, _ = fmt.Fprintln(o.Out, machine)
	if o.Quick {
		_, _ = fmt.Fprintln(o.Out, "quick: to see that it runs; the numbers mean nothing")
	}
	var all []measured
	var errs []error
	for _, row := range selected {
		start := time.Now()
		outcome, err := runRow(ctx, row, o)
		if err == nil {
			err = keep(row, outcome, machine, o)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", row.Key, err))
			if ctx.Err() != nil {
				break
			}
			_, _ = fmt.Fprintf(o.Out, "%s failed: %v\n", row.Key, err)
			continue
		}
		_, _ = fmt.Fprintf(o.Out, "%s: %.3g (%s)\n", row.Key, outcome.Value, time.Since(start).Round(100*time.Millisecond))
		all = append(all, measured{row, outcome})
	}
	return errors.Join(append(errs, printTable(o.Out, all))...)
}

func choose(rows []Row, pattern *regexp.Regexp) []Row {
	if pattern == nil {
		return rows
	}
	var chosen []Row
	for _, row := range rows {
		if pattern.MatchString(row.Group + "/" + row.Key) {
			chosen = append(chosen, row)
		}
	}
	return chosen
}

func runRow(ctx context.Context, row Row, o Options) (outcome Outcome, err error) {
	lab := &Lab{settings: o.Settings, key: row.Key}
	defer func() { err = errors.Join(err, lab.close()) }()
	return row.Run(ctx, lab)
}

// keep writes samples and result.
func keep(row Row, outcome Outcome, machine Machine, o Options) error {
	if o.Raw != "" {
		if err := os.MkdirAll(o.Raw, 0o755); err != nil { //nolint:gosec // numbers, for everyone to read
			return fmt.Errorf("samples: %w", err)
		}
		text := struct {
			Key     string  `json:"key"`
			How     string  `json:"how"`
			Seed    uint64  `json:"seed"`
			Quick   bool    `json:"quick"`
			Machine Machine `json:"machine"`
			Result  Result  `json:"result"`
			Spread  float64 `json:"spread"`
			Samples any     `json:"samples"`
		}{row.Key, row.How, o.Seed, o.Quick, machine, result(row, outcome), significant(outcome.Spread), outcome.Samples}
		if err := writeJSON(filepath.Join(o.Raw, row.Key+".json"), text, ""); err != nil {
			return err
		}
	}
	if o.Results == "" || row.Bar.IsZero() {
		return nil
	}
	return mergeResults(o.Results, map[string]Result{row.Key: result(row, outcome)})
}
