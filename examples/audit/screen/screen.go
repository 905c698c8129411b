package screen

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/compozy/temporal-redis/notifier"
)

// Options are the settings of a Screen.
type Options struct {
	// Size gives the terminal's width and height each time the table is drawn.
	// Defaults to nil: no terminal, plain lines.
	Size func() (width, height int)
	// Color allows colored statuses in the table. Defaults to false.
	Color bool
	// Now is the clock that drawing is timed by. Defaults to time.Now.
	Now func() time.Time
}

// For finds the options for a file: a table if it is a terminal that can move
// its cursor, colors unless NO_COLOR is set.
func For(f *os.File) Options {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
		return Options{}
	}
	return Options{
		Size: func() (int, int) {
			w, h, err := term.GetSize(fd)
			if err != nil || w <= 0 || h <= 0 {
				return 80, 24
			}
			return w, h
		},
		Color: os.Getenv("NO_COLOR") == "",
	}
}

// Screen draws events. It is used by one goroutine.
type Screen struct {
	out     io.Writer
	options Options
	board   *board
	drawn   []int // widths of the lines on the terminal
	late    []time.Duration
}

// New returns a Screen that writes to out.
func New(out io.Writer, options Options) *Screen {
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Screen{out: out, options: options, board: newBoard()}
}

// Run draws what comes until the workflow's final event was drawn, events is
// closed or ctx ends. It tells whether it saw the workflow's end.
func (s *Screen) Run(ctx context.Context, events <-chan notifier.Event) (ended bool, err error) {
	for !s.board.ended() {
		select {
		case <-ctx.Done():
			return false, nil
		case ev, ok := <-events:
			if !ok {
				return false, nil
			}
			if err := s.Draw(append([]notifier.Event{ev}, waiting(events)...)...); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// waiting takes what is there already: one drawing shows a burst.
func waiting(events <-chan notifier.Event) []notifier.Event {
	var out []notifier.Event
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return out
			}
			out = append(out, ev)
		default:
			return out
		}
	}
}

// Draw takes events in and puts them on the screen.
func (s *Screen) Draw(events ...notifier.Event) error {
	var b strings.Builder
	for _, ev := range events {
		if r := s.board.apply(ev); s.options.Size == nil {
			writePlain(&b, ev, r)
		}
	}
	if s.options.Size != nil {
		s.redraw(&b)
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("screen: %w", err)
	}
	now := s.options.Now()
	for _, ev := range events {
		if ev.Kind != notifier.KindGap {
			s.late = append(s.late, now.Sub(ev.Time))
		}
	}
	return nil
}

// Events is how many events were drawn.
func (s *Screen) Events() int { return s.board.events }

// Tasks is how many tasks had an event.
func (s *Screen) Tasks() int { return len(s.board.rows) }

// Latencies are the times from each event's making to the end of the drawing
// that showed it.
func (s *Screen) Latencies() []time.Duration { return s.late }

// writePlain writes one line for an event.
func writePlain(b *strings.Builder, ev notifier.Event, r *row) {
	at := ev.Time.Local().Format("15:04:05.000")
	if r == nil {
		fmt.Fprintf(b, "%s %-9s some events were lost\n", at, "GAP")
		return
	}
	name, status, text := ev.TaskID, string(ev.Status), r.remark()
	if name == "" {
		name = "workflow " + ev.WorkflowID
	}
	if ev.Kind == notifier.KindProgress {
		status = "-"
	}
	if ev.Final {
		text = strings.TrimSpace("(final) " + text)
	}
	fmt.Fprintln(b, strings.TrimRight(printable(fmt.Sprintf("%s %-9s %s  %s", at, status, name, text)), " "))
}

// redraw puts the table over the one before it.
func (s *Screen) redraw(b *strings.Builder) {
	width, height := s.options.Size()
	up := 0
	for _, w := range s.drawn {
		up += max(1, (w+width-1)/width) // a terminal made narrower has wrapped them
	}
	if up > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r", up)
	}
	s.drawn = s.drawn[:0]
	for _, l := range s.board.table(max(width-1, 1), height-1) {
		b.WriteString(s.paint(l) + "\x1b[K\n")
		s.drawn = append(s.drawn, places(l.text))
	}
	b.WriteString("\x1b[J")
}

// paint colors the status of a line.
func (s *Screen) paint(l line) string {
	color := map[notifier.Status]string{
		notifier.StatusRunning: "36", notifier.StatusSuccess: "32", notifier.StatusWaiting: "33", notifier.StatusPaused: "33",
		notifier.StatusFailed: "31", notifier.StatusTimedOut: "31", notifier.StatusCanceled: "35",
	}[l.status]
	at := strings.Index(l.text, " "+string(l.status)+" ") + 1
	if !s.options.Color || color == "" || at == 0 {
		return l.text
	}
	end := at + len(l.status)
	return l.text[:at] + "\x1b[" + color + "m" + l.text[at:end] + "\x1b[0m" + l.text[end:]
}
