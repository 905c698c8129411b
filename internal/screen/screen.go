package screen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/compozy/temporal-redis/notifier"
)

// Screen draws events. It is used by one goroutine.
type Screen struct {
	out    io.Writer
	height func() int // of the terminal; nil: no terminal, plain lines
	color  bool
	board  board
	drawn  int // lines of the table on the terminal
	late   []time.Duration
	away   Away
	run    *run // of the last line, if there is no table
}

// NewMany is New for events of many workflows: each line names its own.
func NewMany(out io.Writer) *Screen {
	s := New(out)
	s.board.many = true
	return s
}

// New returns a Screen that writes to out: a table if that is a terminal that
// can move its cursor, with colors unless NO_COLOR is set; else plain lines.
func New(out io.Writer) *Screen {
	s := &Screen{out: out, board: board{rows: map[string]*row{}, runs: map[string]*runs{}}}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.color = os.Getenv("NO_COLOR") == ""
	s.height = func() int {
		_, height, err := term.GetSize(int(f.Fd()))
		if err != nil || height <= 0 {
			return 24
		}
		return height
	}
	return s
}

// errNoEnd says that the screen does not know how the workflow ended.
var errNoEnd = errors.New("the workflow's last event did not come")

// lookEvery is how often Run asks whether Redis is there.
const lookEvery = 250 * time.Millisecond

// Run draws what comes until the workflow's final event was drawn. It is an
// error if events is closed or ctx ends before. If connected is given, what it
// says of Redis is shown as well.
func (s *Screen) Run(ctx context.Context, events <-chan notifier.Event, connected func() bool) error {
	var looks <-chan time.Time
	if connected != nil {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		looks = look.C
	}
	for !s.board.workflow.EndsWorkflow() {
		select {
		case <-ctx.Done():
			return errNoEnd
		case <-looks:
			if err := s.Connection(connected()); err != nil {
				return err
			}
		case ev, ok := <-events:
			if !ok {
				return errNoEnd
			}
			burst := []notifier.Event{ev}
			for range len(events) { // what is there already: one drawing shows all
				burst = append(burst, <-events)
			}
			if err := s.Draw(burst...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Draw takes events in and puts them on the screen.
func (s *Screen) Draw(events ...notifier.Event) error {
	var b strings.Builder
	for _, ev := range events {
		s.board.meet(ev) // of how many runs there is something decides on headings
	}
	for _, ev := range events {
		if r := s.board.apply(ev); s.height == nil {
			b.WriteString(s.headingLine(ev, r) + s.plainLine(ev, r) + "\n")
		}
	}
	if s.height != nil {
		s.redraw(&b)
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("screen: %w", err)
	}
	now := time.Now()
	for _, ev := range events {
		if ev.Kind != notifier.KindGap {
			s.late = append(s.late, now.Sub(ev.Time))
		}
	}
	if surplus := len(s.late) - maxLate; surplus > maxLate/4 {
		s.late = slices.Delete(s.late, 0, surplus)
	}
	return nil
}

// Events is how many events were drawn.
func (s *Screen) Events() int { return s.board.events }

// Tasks is how many tasks had an event.
func (s *Screen) Tasks() int { return s.board.tasks() }

// Latencies are the times from each event's making to the end of the drawing
// that showed it, of the last 100,000 at least.
func (s *Screen) Latencies() []time.Duration { return s.late }

const clock = "15:04:05.000"

// headingLine is the line in front of the events of another run than before, "" if there
// is none.
func (s *Screen) headingLine(ev notifier.Event, r *row) string {
	if r == nil || r.run == nil || r.run == s.run {
		return ""
	}
	if s.run = r.run; !s.board.headed(r) {
		return ""
	}
	return printable(fmt.Sprintf("%s %-9s %s", ev.Time.Local().Format(clock), "--", s.board.heading(ev.WorkflowID, r.run))) + "\n"
}

// plainLine is an event as a line of its own.
func (s *Screen) plainLine(ev notifier.Event, r *row) string {
	name, status, text := cmp.Or(ev.TaskID, "workflow "+ev.WorkflowID), string(ev.Status), ev.Reason
	switch owner := s.board.owner(ev); {
	case !s.board.many:
	case ev.TaskID == "":
		name = "workflow " + owner
	default:
		name = owner + "/" + name
	}
	switch {
	case ev.Kind == notifier.KindGap:
		name, status, text = "some events were lost", "GAP", ""
	case ev.Kind == notifier.KindProgress:
		status, text = "-", r.note
	case ev.Final:
		text = "(final) " + text
	}
	if ev.Origin != "" {
		text = "(says Temporal) " + text
	}
	return printable(fmt.Sprintf("%s %-9s %s  %s", ev.Time.Local().Format(clock), status, name, text))
}

// Control sequences of terminals. While a table is drawn, lines that are too
// long are cut at the margin instead of being wrapped.
const (
	wrapOff, wrapOn = "\x1b[?7l", "\x1b[?7h"
	eraseLine       = "\x1b[K"
	eraseBelow      = "\x1b[J"
)

// redraw puts the table over the one before it.
func (s *Screen) redraw(b *strings.Builder) {
	b.WriteString(wrapOff)
	if s.drawn > 0 {
		fmt.Fprintf(b, "\r\x1b[%dA", s.drawn)
	}
	lines := s.table(s.height() - 1)
	for _, line := range lines {
		b.WriteString(eraseLine + line + "\n")
	}
	s.drawn = len(lines)
	b.WriteString(eraseBelow + wrapOn)
}

// table lays the board out in at most height lines, but not less than a row.
func (s *Screen) table(height int) []string {
	b := &s.board
	lines := []string{fmt.Sprintf(columns, "TASK", "STATUS", "TRY", "TIME", "NOTE")}
	rows := b.visible(height - 2)
	for i, r := range rows {
		if height > 3 && b.headed(r) && (i == 0 || rows[i-1].run != r.run) {
			lines = append(lines, printable(b.heading(r.event.WorkflowID, r.run)))
		}
		lines = append(lines, s.paint(b.line(r), r.event.Status))
	}
	footer := fmt.Sprintf("%d tasks, %d events, %d gaps, %d rows not shown", b.tasks(), b.events, b.gaps, len(b.rows)-len(rows)+b.forgotten.rows)
	return append(lines, footer+s.away.footer())
}

var colors = map[notifier.Status]string{
	notifier.StatusRunning: "36", notifier.StatusSuccess: "32", notifier.StatusWaiting: "33", notifier.StatusPaused: "33",
	notifier.StatusFailed: "31", notifier.StatusTimedOut: "31", notifier.StatusCanceled: "35",
}

// paint colors the status of a line.
func (s *Screen) paint(line string, status notifier.Status) string {
	if color := colors[status]; s.color && color != "" {
		return strings.Replace(line, string(status), "\x1b["+color+"m"+string(status)+"\x1b[0m", 1)
	}
	return line
}

// printable takes away what could move the cursor or more: events come over
// the network.
func printable(s string) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s), " ")
}
