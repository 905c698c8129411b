package redisstate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// extensions are the counted outcomes of a registry's store.
func extensions(t *testing.T, reg prometheus.Registerer) (sent, dropped, failed int) {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	read := func(outcome string) int {
		return int(testutil.ToFloat64(tel.Metrics.TTLExtensions.WithLabelValues(outcome)))
	}
	return read(telemetry.ExtensionSent), read(telemetry.ExtensionDropped), read(telemetry.ExtensionFailed)
}

// until waits for what a store does in the background.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// writes counts the commands that change something.
type writes struct {
	n    atomic.Int64
	fail atomic.Bool
}

func (w *writes) count(cmds ...redis.Cmder) error {
	for _, cmd := range cmds {
		switch cmd.Name() {
		case "pexpire", "set", "expire":
			w.n.Add(1)
			if w.fail.Load() {
				return net.ErrClosed
			}
		}
	}
	return nil
}

func (*writes) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *writes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := w.count(cmd); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (w *writes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := w.count(cmds...); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

func TestReads_extend_without_a_write_per_read(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	refs, err := newStore(t, newClient(t, server), quiet()).Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, near := range map[string]int64{"with a near cache": 0, "without": -1} {
		o := quiet()
		o.NearCacheBytes = near
		client, seen := newClient(t, server), &writes{}
		client.AddHook(seen)
		store := newStore(t, client, o)
		for range 500 {
			if _, err := store.Get(t.Context(), refs[0].Key()); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Get(t.Context(), ID("a")); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the extension is sent", func() bool { sent, _, _ := extensions(t, o.Registerer); return sent > 0 })
		if sent, dropped, failed := extensions(t, o.Registerer); sent != 1 || dropped != 0 || failed != 0 {
			t.Errorf("%s: sent %d, dropped %d, failed %d; want 1, 0, 0", name, sent, dropped, failed)
		}
		if n := seen.n.Load(); n != 2 { // the config and its index
			t.Errorf("%s: 1000 reads made %d writes; want 2", name, n)
		}
	}
}

func TestSet_counts_as_an_extension(t *testing.T) {
	t.Parallel()
	o := quiet()
	store := newStore(t, newClient(t, newServer(t)), o)
	refs, err := store.Set(t.Context(), Entry{ID: "a", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := store.slides.of(slideKey{Key: refs[0].Key()}, DefaultTTL)
	for range 10 {
		if _, err := store.Get(t.Context(), ID("a")); err != nil {
			t.Fatal(err)
		}
	}
	if left := time.Duration(e.next.Load() - store.slides.clock.Load()); left < DefaultTTL/8 || len(store.slides.queue) != 0 {
		t.Fatalf("the next extension is due in %v, %d are queued", left, len(store.slides.queue))
	}
}

// Another process saved it for less time, or with it.
func TestReads_extend_in_time_what_was_given_a_shorter_life(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	reader, writer := newStore(t, newClient(t, server), quiet()), newStore(t, newClient(t, server), quiet())
	ctx := t.Context()
	if err := writer.SetMetadata(ctx, "m", []byte("long"), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	read := func(want string) {
		t.Helper()
		if data, err := reader.Metadata(ctx, "m"); err != nil || string(data) != want {
			t.Fatalf("got %q, %v", data, err)
		}
	}
	read("long") // extends; the next time would be in 6 hours
	if err := writer.SetMetadata(ctx, "m", []byte("short"), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	server.FastForward(9 * time.Minute) // as long may pass before it is read
	reader.slides.advance(9*time.Minute, 9*time.Minute)
	read("short")
	until(t, "its life is extended", func() bool {
		return server.TTL(reader.space.Metadata("m")) > 9*time.Minute
	})
}

func TestSlides_drop_what_does_not_fit_and_ask_again_later(t *testing.T) {
	t.Parallel()
	o := quiet()
	tel, err := telemetry.New(telemetry.Config{Registerer: o.Registerer})
	if err != nil {
		t.Fatal(err)
	}
	l := newSlides(func(context.Context, []*slide) error { return nil }, tel.Metrics)
	l.closed = true // the goroutine never runs
	const over = 10
	for i := range slideQueue + over {
		l.read(l.of(slideKey{Key: ID(fmt.Sprint(i))}, time.Hour))
	}
	if _, dropped, _ := extensions(t, o.Registerer); dropped != over || len(l.queue) != slideQueue {
		t.Fatalf("dropped %d, queued %d; want %d, %d", dropped, len(l.queue), over, slideQueue)
	}
	last := l.of(slideKey{Key: ID(fmt.Sprint(slideQueue))}, time.Hour)
	l.clock.Add(int64(time.Hour / slideRetry))
	<-l.queue
	l.read(last)
	if len(l.queue) != slideQueue {
		t.Fatal("what was dropped is not asked for again")
	}
	l.close()
}

func TestSlides_remember_a_bounded_number(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Config{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l := newSlides(func(context.Context, []*slide) error { return nil }, tel.Metrics)
	defer l.close()
	used := l.of(slideKey{Key: ID("used")}, time.Hour)
	for i := range 5 * slideKnown {
		l.of(slideKey{Key: ID(fmt.Sprint(i))}, time.Hour)
		if i%1000 == 0 && l.of(slideKey{Key: ID("used")}, time.Hour) != used {
			t.Fatal("what is in use is forgotten")
		}
	}
	if n := len(l.young) + len(l.old); n > 2*slideKnown {
		t.Fatalf("remembers %d; want at most %d", n, 2*slideKnown)
	}
}

func TestReads_do_not_mind_that_extending_fails(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	if _, err := newStore(t, newClient(t, server), quiet()).Set(t.Context(), Entry{ID: "a", Value: 1}); err != nil {
		t.Fatal(err)
	}
	o := quiet()
	client, seen := newClient(t, server), &writes{}
	client.AddHook(seen)
	store := newStore(t, client, o)
	seen.fail.Store(true)
	until(t, "the extension fails", func() bool {
		if _, err := store.Get(t.Context(), ID("a")); err != nil {
			t.Fatal(err)
		}
		_, _, failed := extensions(t, o.Registerer)
		return failed > 0
	})
}

func TestSlides_ask_again_soon_after_a_failure(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Config{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l := newSlides(func(context.Context, []*slide) error { return ErrUnavailable }, tel.Metrics)
	l.closed = true // the goroutine never runs
	l.clock.Store(1)
	e := l.of(slideKey{Key: ID("a")}, time.Hour)
	l.read(e)
	l.round(l.drain())
	l.clock.Add(int64(time.Hour / slideRetry))
	if l.read(e); len(l.queue) != 1 {
		t.Fatal("what failed is not asked for again")
	}
	l.close()
}

func TestStore_with_FixedTTL_runs_nothing(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.FixedTTL = true
	store := newStore(t, newClient(t, newServer(t)), o)
	refs, err := store.Set(t.Context(), Entry{ID: "a", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), refs[0].Key()); err != nil || store.slides != nil {
		t.Fatalf("got %v, slides %v", err, store.slides)
	}
}

func TestStore_starts_and_stops_under_load(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	for range 50 {
		store, err := NewStore(client, quiet())
		if err != nil {
			t.Fatal(err)
		}
		refs, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1, TTL: time.Millisecond * 400})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					if _, err := store.Get(t.Context(), refs[0].Key()); errors.Is(err, ErrClosed) {
						return
					}
					_, _ = store.Get(t.Context(), ID("a"))
					runtime.Gosched()
				}
			})
		}
		for range 2 {
			all.Go(func() { _ = store.Close() })
		}
		all.Wait()
	}
}
