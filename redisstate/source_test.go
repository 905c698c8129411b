package redisstate

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func sourceLoads(t *testing.T, reg prometheus.Registerer, outcome string) int {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return int(testutil.ToFloat64(tel.Metrics.SourceLoads.WithLabelValues(outcome)))
}

func TestSource_is_not_asked_in_an_outage(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	var asked atomic.Int64
	o := quiet()
	o.Source = SourceFunc(func(context.Context, Key) (Entry, error) { asked.Add(1); return Entry{Value: 1}, nil })
	store := newStore(t, newClient(t, server), o)
	pinned := Key{"a", sum{}.digest()}
	for _, reply := range []string{"LOADING Redis is loading the dataset in memory", "NOPERM no permissions"} {
		server.SetError(reply)
		_, one := store.Get(t.Context(), ID("a"))
		_, two := store.Get(t.Context(), pinned)
		_, many := store.GetMany(t.Context(), ID("a"), pinned)
		for _, err := range []error{one, two, many} {
			if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDenied) {
				t.Errorf("got %v", err)
			}
		}
	}
	if asked.Load() != 0 {
		t.Fatalf("the source was asked %d times", asked.Load())
	}
}

func TestSource_serves_what_Redis_does_not_take(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	var log strings.Builder
	o := quiet()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.Source = SourceFunc(func(context.Context, Key) (Entry, error) {
		server.SetError("OOM command not allowed when used memory > 'maxmemory'.")
		return Entry{Value: "secret"}, nil
	})
	store := newStore(t, newClient(t, server), o)
	config, err := store.Get(t.Context(), ID("a"))
	if err != nil || string(config.JSON()) != `"secret"` {
		t.Fatalf("got %s, %v", config.JSON(), err)
	}
	if n := sourceLoads(t, o.Registerer, telemetry.SourceUnsaved); n != 1 {
		t.Errorf("counted %d unsaved loads; want 1", n)
	}
	if !strings.Contains(log.String(), "Options.Source") || strings.Contains(log.String(), "secret") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestSource_counts_its_loads(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.Source = SourceFunc(func(_ context.Context, key Key) (Entry, error) {
		switch key.ID {
		case "none":
			return Entry{}, ErrNotFound
		case "bad":
			return Entry{}, errors.New("away")
		}
		return Entry{Value: 1}, nil
	})
	store := newStore(t, newClient(t, newServer(t)), o)
	for _, key := range []Key{ID("a"), ID("a"), ID("b"), ID("none"), ID("bad"), {"c", sum{}.digest()}} {
		_, _ = store.Get(t.Context(), key)
	}
	for outcome, want := range map[string]int{
		telemetry.SourceLoaded: 2, telemetry.SourceMissing: 1, telemetry.SourceFailed: 1, telemetry.SourceMismatch: 1, telemetry.SourceUnsaved: 0,
	} {
		if got := sourceLoads(t, o.Registerer, outcome); got != want {
			t.Errorf("%s: %d; want %d", outcome, got, want)
		}
	}
}

func TestSource_that_ends_its_goroutine_fails_only_its_load(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.Source = SourceFunc(func(_ context.Context, key Key) (Entry, error) {
		if key.ID == "bad" {
			runtime.Goexit()
		}
		return Entry{Value: 1}, nil
	})
	store := newStore(t, newClient(t, newServer(t)), o)
	for range 2 {
		if _, err := store.Get(t.Context(), ID("bad")); !errors.Is(err, ErrSourceFailed) {
			t.Fatalf("got %v; want ErrSourceFailed", err)
		}
	}
	if _, err := store.Get(t.Context(), ID("good")); err != nil {
		t.Fatal(err)
	}
}

func TestSource_does_not_overwrite_what_is_saved_while_it_loads(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	writer := newStore(t, newClient(t, server), quiet())
	o := quiet()
	o.Source = SourceFunc(func(ctx context.Context, _ Key) (Entry, error) {
		_, err := writer.Set(ctx, Entry{ID: "a", Value: "newer"})
		return Entry{Value: "older"}, err
	})
	config, err := newStore(t, newClient(t, server), o).Get(t.Context(), ID("a"))
	if err != nil || string(config.JSON()) != `"newer"` {
		t.Fatalf("got %s, %v; want what was saved", config.JSON(), err)
	}
}

// What the source says of a workflow is not written where the id has something else.
func TestSource_lists_nothing_that_it_did_not_save(t *testing.T) {
	t.Parallel()
	for name, saved := range map[string]string{"other content": "other", "the same content": "source's"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			writer := newStore(t, newClient(t, server), quiet())
			o := quiet()
			o.Source = SourceFunc(func(context.Context, Key) (Entry, error) {
				saves(t, writer, Entry{ID: "a", Workflow: "x", Value: saved})
				return Entry{Workflow: "w", Value: "source's"}, nil
			})
			reader := newStore(t, newClient(t, server), o)
			if _, err := reader.Get(t.Context(), ID("a")); err != nil {
				t.Error(err)
			}
			if _, err := reader.Get(t.Context(), Key{"a", sum{}.digest()}); !errors.Is(err, ErrSourceMismatch) {
				t.Errorf("a ref gives %v", err)
			}
			lists(t, reader, "w", 0)
			lists(t, reader, "x", 1)
			if server.Exists(reader.space.WorkflowIndex("w")) {
				t.Errorf("the index lists %v", members(t, server.Addr(), reader.space.WorkflowIndex("w")))
			}
		})
	}
}

func TestClose_ends_loads(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	o := quiet()
	o.Source = SourceFunc(func(ctx context.Context, _ Key) (Entry, error) {
		close(asked)
		<-ctx.Done()
		return Entry{}, ctx.Err()
	})
	store := newStore(t, newClient(t, newServer(t)), o)
	got := make(chan error)
	go func() { _, err := store.Get(t.Context(), ID("a")); got <- err }()
	<-asked
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v; want ErrClosed", err)
	}
}

// A load that all gave up is not joined: the next reader waits for its end and
// starts anew.
func TestSource_load_that_was_given_up_is_not_joined(t *testing.T) {
	t.Parallel()
	first, end := make(chan struct{}), make(chan struct{})
	var loads atomic.Int64
	o := quiet()
	o.Source = SourceFunc(func(ctx context.Context, _ Key) (Entry, error) {
		if loads.Add(1) > 1 {
			return Entry{Value: 1}, nil
		}
		close(first)
		<-ctx.Done()
		<-end
		return Entry{}, ctx.Err()
	})
	store := newStore(t, newClient(t, newServer(t)), o)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := store.Get(ctx, ID("a")); gone <- err }()
	<-first
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v; want Canceled", err)
	}
	second := make(chan error)
	go func() { _, err := store.Get(t.Context(), ID("a")); second <- err }()
	close(end)
	if err := <-second; err != nil {
		t.Fatalf("the next reader got %v", err)
	}
}
