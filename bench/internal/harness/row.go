package harness

import (
	"context"
	"fmt"
	"strconv"
)

// Row is one comparison.
type Row struct {
	// Key names it in results.json, in the table and in the files of samples.
	Key string
	// Group is what a selection may name instead of single keys.
	Group string
	// How says in one sentence what exactly both sides do.
	How string
	// Bar is what the value is held against. The zero Bar marks a row that is
	// printed and whose samples are kept, but which is not in results.json.
	Bar Bar
	// Absolute names our side in the table of absolute times. Defaults to none.
	Absolute string
	// Run measures. What it opens in the lab is closed after it.
	Run func(ctx context.Context, lab *Lab) (Outcome, error)
}

// Bar is the value that a row has to reach.
type Bar struct {
	relation string
	value    float64
}

// AtMost is met by values up to v.
func AtMost(v float64) Bar { return Bar{"<=", v} }

// AtLeast is met by values from v on.
func AtLeast(v float64) Bar { return Bar{">=", v} }

// IsZero tells whether there is no bar.
func (b Bar) IsZero() bool { return b.relation == "" }

// Met tells whether v reaches the bar; without one, everything does.
func (b Bar) Met(v float64) bool {
	switch b.relation {
	case "<=":
		return v <= b.value
	case ">=":
		return v >= b.value
	}
	return true
}

func (b Bar) String() string {
	if b.IsZero() {
		return "-"
	}
	return b.relation + " " + strconv.FormatFloat(b.value, 'f', -1, 64)
}

// Outcome is what a row measured.
type Outcome struct {
	// Value is the ratio that the bar is about.
	Value float64
	// Spread is (max - min) / median over the rounds' ratios.
	Spread float64
	// Ours and Theirs are the two sides in Unit, medians over the rounds.
	Ours, Theirs Figure
	Unit         string
	// Samples is kept as JSON in the row's file.
	Samples any
}

// Figure is one side of an outcome.
type Figure struct {
	Value float64 // in the outcome's unit
	P99   float64 // microseconds; 0: not a matter of single operations
}

// Units of outcomes.
const (
	Microseconds = "us"
	PerSecond    = "op/s"
	Bytes        = "bytes"
	Part         = "part" // of one
)

// show writes a figure for people.
func (f Figure) show(unit string) string {
	tail := ""
	if f.P99 > 0 {
		tail = fmt.Sprintf(" (p99 %s)", showMicros(f.P99))
	}
	switch unit {
	case Microseconds:
		return showMicros(f.Value) + tail
	case PerSecond:
		return fmt.Sprintf("%.0f/s", f.Value) + tail
	}
	if unit == Part {
		return fmt.Sprintf("%.3f", f.Value)
	}
	return fmt.Sprintf("%.0f %s", f.Value, unit)
}

func showMicros(us float64) string {
	switch {
	case us < 10:
		return fmt.Sprintf("%.2f us", us)
	case us < 10_000:
		return fmt.Sprintf("%.0f us", us)
	}
	return fmt.Sprintf("%.1f ms", us/1000)
}
