package redisstate

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// panicking is what a host's own type may do.
type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("secret of MarshalJSON") }
func (panicking) Error() string                { panic("secret of Error") }

// The load runs on a goroutine of ours: a panic there would end the worker, not
// the activity that reads.
func TestSource_cannot_end_the_process_by_what_it_gives(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]SourceFunc{
		"its value panics": func(context.Context, Key) (Entry, error) { return Entry{Value: panicking{}}, nil },
		"its error panics": func(context.Context, Key) (Entry, error) { return Entry{}, panicking{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			o := quiet()
			o.Logger, o.Source = slog.New(slog.NewTextHandler(&log, nil)), load
			_, err := newStore(t, newClient(t, newServer(t)), o).Get(t.Context(), ID("a"))
			if !errors.Is(err, ErrSourceFailed) || strings.Contains(err.Error()+log.String(), "secret") {
				t.Fatalf("got %v, logged %s", err, log.String())
			}
			if n := sourceLoads(t, o.Registerer, telemetry.SourceFailed); n != 1 {
				t.Errorf("counted %d failed loads; want 1", n)
			}
		})
	}
}

func TestExtend_forever_extends_the_listing_too(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	if _, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Extend(t.Context(), math.MaxInt64, ID("a")); n != 1 || err != nil {
		t.Fatalf("extended %d, %v", n, err)
	}
	server.FastForward(2 * DefaultTTL)
	if n, err := store.Count(t.Context(), Scope{Workflow: "wf"}); n != 1 || err != nil {
		t.Fatalf("listed %d, %v; want 1", n, err)
	}
}

// newer makes a stored value one of a release after this one.
func newer(raw string, version, flags byte) string {
	b := []byte(raw)
	b[versionAt] += version
	b[flagsAt] |= flags
	return string(b)
}

func TestExtendWorkflow_and_Delete_reach_what_a_newer_release_wrote(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(string) string{
		"with another flag":  func(raw string) string { return newer(raw, 0, 0x40) },
		"in a newer version": func(raw string) string { return newer(raw, 1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			store := newStore(t, newClient(t, server), quiet())
			refs, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1, TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			key := store.space.Config("a")
			raw, err := server.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Set(key, change(raw)); err != nil {
				t.Fatal(err)
			}
			server.SetTTL(key, time.Hour)
			if n, err := store.ExtendWorkflow(t.Context(), "wf", 8*time.Hour); n != 1 || err != nil {
				t.Fatalf("extended %d, %v; want 1", n, err)
			}
			if left, err := store.TTL(t.Context(), refs[0].Key()); left != 8*time.Hour || err != nil {
				t.Fatalf("it lives %v, %v; want 8h", left, err)
			}
			if n, err := store.Delete(t.Context(), refs[0].Key()); n != 1 || err != nil {
				t.Fatalf("deleted %d, %v; want 1", n, err)
			}
		})
	}
}

// Redis refuses to put it aside for no time, and so refused each later Set.
func TestSet_replaces_a_planted_value_without_a_life(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	c, s := newContentOf([]byte("1"), store.codec)
	planted := value{sum: s, payload: c.json}.encode(store.envelope, "a")
	if err := server.Set(store.space.Config("a"), string(planted)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), ID("a")); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v; want ErrCorrupt", err)
	}
	if _, err := store.Set(t.Context(), Entry{ID: "a", Value: 2}); err != nil {
		t.Fatal(err)
	}
}

func TestSlides_clock_never_goes_back_or_stands_still(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Config{Registerer: quiet().Registerer})
	if err != nil {
		t.Fatal(err)
	}
	l := newSlides(func(context.Context, []*slide) error { return nil }, tel.Metrics)
	defer l.close()
	l.closed = true // the goroutine never runs
	e := l.saved(slideKey{Key: ID("a")}, time.Hour)
	for name, step := range map[string]struct{ monotonic, wall time.Duration }{
		"the wall clock is set back": {time.Hour / slidePart, -100 * time.Hour},
		"the machine was suspended":  {0, time.Hour / slidePart},
		"both go on":                 {time.Hour / slidePart, time.Hour / slidePart},
	} {
		l.read(e)
		if len(l.queue) != 0 {
			t.Fatalf("%s: it was due before", name)
		}
		l.advance(step.monotonic, step.wall)
		l.read(e)
		if len(l.queue) != 1 {
			t.Fatalf("%s: it was not due", name)
		}
		<-l.queue
	}
	if n := testutil.ToFloat64(l.dropped); n != 0 {
		t.Errorf("dropped %v", n)
	}
}
