package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/compozy/temporal-redis/redisstate"
)

// source is a Source that gives basic(id, weight) for every id but "none".
type source struct {
	weight int64
	loads  atomic.Int64
	// hold, if set, is called by every load.
	hold func(ctx context.Context)
}

func (s *source) Load(ctx context.Context, key redisstate.Key) (redisstate.Entry, error) {
	s.loads.Add(1)
	if s.hold != nil {
		s.hold(ctx)
	}
	if err := ctx.Err(); err != nil {
		return redisstate.Entry{}, err
	}
	if key.ID == "none" {
		return redisstate.Entry{}, fmt.Errorf("no row: %w", redisstate.ErrNotFound)
	}
	return redisstate.Entry{Workflow: "wf", Value: basic(key.ID, s.weight), TTL: 2 * short}, nil
}

func (s *source) loaded(tb testing.TB, want int64) {
	tb.Helper()
	if got := s.loads.Load(); got != want {
		tb.Fatalf("the source was asked %d times; want %d", got, want)
	}
}

func missing(tb testing.TB, err error, says string) {
	tb.Helper()
	e, ok := errors.AsType[*redisstate.MissingError](err)
	if !ok || !errors.Is(err, redisstate.ErrNotFound) || e.Family != "config" {
		tb.Fatalf("got %v; want a MissingError of a config", err)
	}
	oneLine(tb, err)
	for _, want := range []string{"config", "Options.TTL", says} {
		if !strings.Contains(err.Error(), want) {
			tb.Fatalf("the error does not say %q: %v", want, err)
		}
	}
}

func namesRemedy(tb testing.TB, b ConfigStoreBackend) {
	plain, sourced := b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{Source: new(source)})
	_, err := plain.Get(tb.Context(), redisstate.ID("none"))
	missing(tb, err, "set Options.Source")
	_, err = sourced.Get(tb.Context(), redisstate.ID("none"))
	missing(tb, err, "Options.Source does not have it")
	_, err = plain.TTL(tb.Context(), redisstate.ID("none"))
	missing(tb, err, "set Options.Source")
}

func regenerates(tb testing.TB, b ConfigStoreBackend) {
	src := &source{weight: 1}
	s := b.Open(tb, redisstate.Options{Source: src})
	ref := saveEntry(tb, b.Open(tb, redisstate.Options{}), redisstate.Entry{ID: "a", Workflow: "wf", Value: basic("a", 1)})
	reads(tb, s, redisstate.ID("a"), basic("a", 1))
	src.loaded(tb, 0)
	for i, key := range []redisstate.Key{redisstate.ID("a"), ref.Key(), redisstate.ID("b")} {
		b.Flush(tb)
		fresh := b.Open(tb, redisstate.Options{Source: src})
		if config := reads(tb, fresh, key, basic(key.ID, 1)); config.Workflow != "wf" {
			tb.Fatalf("it is of workflow %q", config.Workflow)
		}
		src.loaded(tb, int64(i+1))
		// It is saved, as the source said.
		plain := b.Open(tb, redisstate.Options{})
		reads(tb, plain, key, basic(key.ID, 1))
		lives(tb, plain, key, 2*short)
		listed := []string{key.ID}
		if key.Digest != "" {
			listed = nil // for its refs only: it may be earlier content
		}
		same(tb, "of the workflow", lists(tb, plain, redisstate.Scope{Workflow: "wf"}), listed)
	}
}

// What a source keeps of earlier content answers refs and never an id.
func regeneratesEarlier(tb testing.TB, b ConfigStoreBackend) {
	plain := b.Open(tb, redisstate.Options{})
	old := save(tb, plain, "a", basic("a", 1))
	now := save(tb, plain, "a", basic("a", 2))
	b.Flush(tb)
	keeper := redisstate.SourceFunc(func(_ context.Context, key redisstate.Key) (redisstate.Entry, error) {
		if key.Digest == old.Digest {
			return redisstate.Entry{Workflow: "wf", Value: basic("a", 1)}, nil
		}
		return redisstate.Entry{Workflow: "wf", Value: basic("a", 2)}, nil
	})
	s := b.Open(tb, redisstate.Options{Source: keeper})
	reads(tb, s, old.Key(), basic("a", 1))
	refuses(tb, b.Open(tb, redisstate.Options{}), redisstate.ID("a"), redisstate.ErrNotFound)
	reads(tb, s, redisstate.ID("a"), basic("a", 2))
	fresh := b.Open(tb, redisstate.Options{})
	reads(tb, fresh, old.Key(), basic("a", 1))
	reads(tb, fresh, now.Key(), basic("a", 2))
	extends(tb, fresh, 1, 4*redisstate.DefaultTTL, old.Key())
}

func regeneratesMany(tb testing.TB, b ConfigStoreBackend) {
	src := &source{weight: 1}
	s := b.Open(tb, redisstate.Options{Source: src})
	save(tb, s, "c05", basic("c05", 1))
	keys := []redisstate.Key{redisstate.ID("none"), redisstate.ID("c00"), redisstate.ID("c00")}
	for i := range 30 {
		keys = append(keys, redisstate.ID(fmt.Sprintf("c%02d", i)))
	}
	found, err := s.GetMany(tb.Context(), keys...)
	if err != nil || len(found) != 30 {
		tb.Fatalf("found %d, %v; want 30", len(found), err)
	}
	for _, key := range keys[1:] {
		sameJSON(tb, found[key], basic(key.ID, 1))
	}
	src.loaded(tb, 30) // c05 was there, none was asked for
	counted(tb, b.Open(tb, redisstate.Options{}), redisstate.Scope{}, 30)
}

// A reader whose miss is older than the end of the load may start another, but
// never beside it.
func loadsOnce(tb testing.TB, b ConfigStoreBackend) {
	const readers = 16
	release := make(chan struct{})
	var now, most atomic.Int64
	src := &source{weight: 1, hold: func(context.Context) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		now.Add(-1)
	}}
	s := b.Open(tb, redisstate.Options{Source: src})
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			if config, err := s.Get(tb.Context(), redisstate.ID("a")); err != nil || config.Ref.ID != "a" {
				tb.Errorf("got the ref %v, %v", config.Ref, err)
			}
		})
	}
	await(tb, "the source is asked", func() bool { return src.loads.Load() > 0 })
	for range 20 { // time for the others to come
		lives(tb, s, save(tb, s, "b", 1).Key(), redisstate.DefaultTTL)
	}
	close(release)
	all.Wait()
	if most.Load() != 1 || src.loads.Load() > readers/2 {
		tb.Fatalf("loaded %d times for %d readers, %d at a time; want one at a time", src.loads.Load(), readers, most.Load())
	}
}

// The one who gives up is the one whose read started the load.
func givesUpAlone(tb testing.TB, b ConfigStoreBackend) {
	asked, release := make(chan struct{}, 100), make(chan struct{})
	src := &source{weight: 1, hold: func(ctx context.Context) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
	}}
	s := b.Open(tb, redisstate.Options{Source: src})
	ctx, cancel := context.WithCancel(tb.Context())
	first := make(chan error, 1)
	go func() {
		_, err := s.Get(ctx, redisstate.ID("a"))
		first <- err
	}()
	<-asked
	var others sync.WaitGroup
	for range 8 {
		others.Go(func() {
			if _, err := s.Get(tb.Context(), redisstate.ID("a")); err != nil {
				tb.Errorf("one who waits got %v when the first gave up", err)
			}
		})
	}
	// Nothing tells that they wait, but a few round trips are enough for that.
	for range 20 {
		lives(tb, s, save(tb, s, "b", 1).Key(), redisstate.DefaultTTL)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || errors.Is(err, redisstate.ErrUnavailable) {
		tb.Errorf("the first gave up and got %v", err)
	}
	close(release)
	others.Wait()
}

func regeneratesAside(tb testing.TB, b ConfigStoreBackend) {
	plain := b.Open(tb, redisstate.Options{})
	old := save(tb, plain, "a", basic("a", 1))
	b.Flush(tb)
	now := save(tb, plain, "a", basic("a", 2))
	s := b.Open(tb, redisstate.Options{Source: &source{weight: 1}})
	reads(tb, s, old.Key(), basic("a", 1))
	fresh := b.Open(tb, redisstate.Options{})
	reads(tb, fresh, old.Key(), basic("a", 1)) // saved for its refs
	reads(tb, fresh, redisstate.ID("a"), basic("a", 2))
	reads(tb, fresh, now.Key(), basic("a", 2))
}

func refusesMismatch(tb testing.TB, b ConfigStoreBackend) {
	plain := b.Open(tb, redisstate.Options{})
	old := save(tb, plain, "a", basic("a", 1))
	refused := func(want int64) {
		tb.Helper()
		s := b.Open(tb, redisstate.Options{Source: &source{weight: 3}})
		_, err := s.Get(tb.Context(), old.Key())
		missing(tb, err, "Source has other content")
		if !errors.Is(err, redisstate.ErrSourceMismatch) {
			tb.Fatalf("got %v; want ErrSourceMismatch", err)
		}
		if found, err := s.GetMany(tb.Context(), old.Key(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrSourceMismatch) || len(found) != 1 {
			tb.Fatalf("found %d, %v; want 1 and ErrSourceMismatch", len(found), err)
		}
		reads(tb, b.Open(tb, redisstate.Options{}), redisstate.ID("a"), basic("a", want))
	}
	b.Flush(tb)
	refused(3) // what the source gave is the current content of the id
	b.Flush(tb)
	save(tb, plain, "a", basic("a", 2))
	refused(2) // it overwrites nothing
}

func tellsSourceFailed(tb testing.TB, b ConfigStoreBackend) {
	gone := errors.New("the database is away")
	for name, test := range map[string]struct {
		load func() (redisstate.Entry, error)
		want error
	}{
		"error":    {func() (redisstate.Entry, error) { return redisstate.Entry{}, gone }, redisstate.ErrSourceFailed},
		"panic":    {func() (redisstate.Entry, error) { panic("in the source") }, redisstate.ErrSourceFailed},
		"other id": {func() (redisstate.Entry, error) { return redisstate.Entry{ID: "b", Value: 1}, nil }, redisstate.ErrSourceFailed},
		"no value": {func() (redisstate.Entry, error) { return redisstate.Entry{}, nil }, redisstate.ErrInvalidValue},
		"too large": {func() (redisstate.Entry, error) {
			return redisstate.Entry{Value: strings.Repeat("x", 200)}, nil
		}, redisstate.ErrTooLarge},
	} {
		broken := true
		s := b.Open(tb, redisstate.Options{MaxConfigBytes: 100, Source: redisstate.SourceFunc(func(context.Context, redisstate.Key) (redisstate.Entry, error) {
			if broken {
				return test.load()
			}
			return redisstate.Entry{Value: 1}, nil
		})})
		_, err := s.Get(tb.Context(), redisstate.ID("a"))
		if !errors.Is(err, test.want) || errors.Is(err, redisstate.ErrNotFound) || errors.Is(err, redisstate.ErrUnavailable) {
			tb.Fatalf("%s: got %v; want %v", name, err, test.want)
		}
		if name == "error" && !errors.Is(err, gone) {
			tb.Fatalf("the cause is lost: %v", err)
		}
		oneLine(tb, err)
		if found, err := s.GetMany(tb.Context(), redisstate.ID("a")); !errors.Is(err, test.want) || len(found) != 0 {
			tb.Fatalf("%s: found %d, %v; want %v", name, len(found), err, test.want)
		}
		broken = false // it did not stop others from asking again
		reads(tb, s, redisstate.ID("a"), 1)
		b.Flush(tb)
	}
}
