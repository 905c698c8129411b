package screen

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/compozy/temporal-redis/notifier"
)

// Widths of the columns that do not grow. TIMED_OUT is the longest status.
const (
	statusWidth = 9
	tryWidth    = 3
	timeWidth   = 6
	gaps        = 4 // one space between five columns
)

// column widths for a terminal.
type columns struct{ task, note int }

func columnsFor(width int) columns {
	left := max(width-statusWidth-tryWidth-timeWidth-gaps, 0)
	task := min(max(left*2/5, 12), 40)
	return columns{task: min(task, left), note: max(left-task, 0)}
}

// table lays the board out in at most height lines of at most width places.
func (b *board) table(width, height int) []line {
	c := columnsFor(width)
	lines := []line{
		{text: clip(b.headline(), width)},
		{text: clip(c.format("TASK", "STATUS", "TRY", "TIME", "NOTE"), width)},
	}
	rows, hidden := b.visible(max(height-3, 1))
	for _, r := range rows {
		attempt := ""
		if r.event.Attempt > 0 {
			attempt = fmt.Sprint(r.event.Attempt)
		}
		lines = append(lines, line{
			text:   clip(c.format(r.event.TaskID, string(r.event.Status), attempt, r.took(), r.remark()), width),
			status: r.event.Status,
		})
	}
	if hidden != "" {
		lines = append(lines, line{text: clip(hidden, width)})
	}
	return lines
}

// line is one line of the table.
type line struct {
	text   string
	status notifier.Status
}

func (b *board) headline() string {
	head := fmt.Sprintf("%s  %s  %d tasks, %d events", orDots(b.workflow.event.WorkflowID),
		orDots(string(b.workflow.event.Status)), len(b.rows), b.events)
	if !b.first.IsZero() {
		head += "  " + short(b.last.Sub(b.first))
	}
	if b.gaps > 0 {
		head += fmt.Sprintf("  %d gaps", b.gaps)
	}
	if reason := b.workflow.event.Reason; reason != "" {
		head += "  " + reason
	}
	return head
}

func orDots(s string) string {
	if s == "" {
		return "..."
	}
	return s
}

func (c columns) format(task, status, attempt, took, note string) string {
	return fmt.Sprintf("%s %s %*s %*s %s", pad(shorten(task, c.task), c.task), pad(status, statusWidth),
		tryWidth, attempt, timeWidth, took, clip(note, c.note))
}

// shorten cuts the middle out of an id: its ends tell most.
func shorten(s string, width int) string {
	s = printable(s)
	if places(s) <= width {
		return s
	}
	if width < 5 {
		return clip(s, width)
	}
	head := (width - 2) / 2
	tail := []rune(s)
	n, used := len(tail), 0
	for n > 0 && used+placesOf(tail[n-1]) <= width-2-head {
		n--
		used += placesOf(tail[n])
	}
	return cut(s, head) + ".." + string(tail[n:])
}

// clip cuts the end off.
func clip(s string, width int) string {
	s = printable(s)
	if places(s) <= width {
		return s
	}
	if width < 3 {
		return cut(s, width)
	}
	return cut(s, width-2) + ".."
}

func cut(s string, width int) string {
	used := 0
	for i, r := range s {
		if used += placesOf(r); used > width {
			return s[:i]
		}
	}
	return s
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-places(s), 0))
}

func places(s string) int {
	n := 0
	for _, r := range s {
		n += placesOf(r)
	}
	return n
}

// placesOf is how many columns a terminal gives a character: two for the wide
// ones of East Asia and for emoji, none for marks that combine.
func placesOf(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= 0x1100 && (unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) ||
		r >= 0xff00 && r <= 0xff60 || r >= 0x3000 && r <= 0x303e || r >= 0x1f300 && r <= 0x1faff):
		return 2
	}
	return 1
}

// printable takes away what could move the cursor or more: events come over
// the network.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
