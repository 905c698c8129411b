package screen

import (
	"bytes"
	"strings"
	"testing"

	"github.com/compozy/temporal-redis/notifier"
)

// ending ends the workflow when it was given the text.
type ending struct {
	bytes.Buffer
	text   string
	events chan<- notifier.Event
}

func (e *ending) Write(p []byte) (int, error) {
	n, err := e.Buffer.Write(p)
	if e.events != nil && strings.Contains(e.String(), e.text) {
		end := event(0, 0, "", notifier.StatusSuccess)
		end.Final = true
		e.events <- end
		e.events = nil
	}
	return n, err
}

func TestRunShowsWhetherRedisIsThere(t *testing.T) {
	t.Parallel()
	events := make(chan notifier.Event, 1)
	out := &ending{text: "Redis is back", events: events}
	looks := 0
	connected := func() bool { looks++; return looks > 1 }
	if err := New(out).Run(t.Context(), events, connected); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "the connection to Redis is lost; trying again") != 1 || strings.Count(got, "Redis is back") != 1 {
		t.Errorf("the screen shows %s", got)
	}
}
