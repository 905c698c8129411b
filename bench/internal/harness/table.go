package harness

import (
	"fmt"
	"io"
	"regexp"
	"text/tabwriter"
)

// printTable prints what was measured: the rows, then our own absolute times.
func printTable(out io.Writer, all []measured) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nrow\tvalue\tbar\tmet\tspread\tours\ttheirs")
	for _, m := range all {
		met := "yes"
		switch {
		case m.row.Bar.IsZero():
			met = "-"
		case !m.row.Bar.Met(m.outcome.Value):
			met = "NO"
		}
		o := m.outcome
		_, _ = fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%.0f%%\t%s\t%s\n", m.row.Key, o.Value, m.row.Bar, met,
			100*o.Spread, o.Ours.show(o.Unit), o.Theirs.show(o.Unit))
	}
	printAbsolute(w, all)
	return w.Flush()
}

// goal is what the product asks of a config operation, in microseconds.
const goal = 1000

func printAbsolute(w io.Writer, all []measured) {
	header := false
	for _, m := range all {
		if m.row.Absolute == "" || m.outcome.Unit != Microseconds {
			continue
		}
		if !header {
			_, _ = fmt.Fprintln(w, "\nours, absolute\tp50\tp99\tp50 under 1 ms\tp99 under 1 ms")
			header = true
		}
		f := m.outcome.Ours
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.row.Absolute, showMicros(f.Value), showMicros(f.P99),
			yesNo(f.Value < goal), yesNo(f.P99 < goal))
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// List prints the selected rows, their bars and what they do.
func List(out io.Writer, rows []Row, pattern *regexp.Regexp) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range choose(rows, pattern) {
		_, _ = fmt.Fprintf(w, "%s/%s\t%s\t%s\n", row.Group, row.Key, row.Bar, row.How)
	}
	return w.Flush()
}
