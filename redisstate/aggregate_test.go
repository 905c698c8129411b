package redisstate

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// newAggregates makes a cache of states with parts over a database of one.
func newAggregates(t *testing.T, client redis.UniversalClient, o Options) (c *Cache[parts], row *parts, loads *int) {
	t.Helper()
	row, loads = &parts{Parts: map[string]int{}}, new(int)
	c, err := NewAggregateCache(client, CacheOptions[parts]{Kind: "workflow", Load: func(context.Context, string) (parts, error) {
		*loads++
		return parts{Head: row.Head, Parts: maps.Clone(row.Parts)}, nil
	}}, o)
	if err != nil {
		t.Fatal(err)
	}
	c.away.wait = time.Minute
	t.Cleanup(func() { _ = c.Close() })
	return c, row, loads
}

// holds checks what a cache of states with parts gives.
func holdsParts(t *testing.T, c *Cache[parts], want parts, loads *int, after int) {
	t.Helper()
	got, err := c.Get(t.Context(), "a")
	if err != nil || got.Head != want.Head || !maps.Equal(got.Parts, want.Parts) || *loads != after {
		t.Errorf("it is %+v, %v after %d loads; want %+v after %d", got, err, *loads, want, after)
	}
}

func commits(t *testing.T, ch *Changes[parts]) {
	t.Helper()
	if err := ch.Commit(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAggregateCache_writes_parts_through(t *testing.T) {
	t.Parallel()
	ring := ringOf(t, EncryptionKey{ID: "k1", Key: bytes.Repeat([]byte("k"), 32)})
	for name, o := range map[string]Options{
		"plain":                    {},
		"compressed and encrypted": {Compression: CompressionZstd, Keys: ring, RequireEncryption: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Registerer, o.Logger = quiet().Registerer, quiet().Logger
			client := newClient(t, newServer(t))
			c, row, loads := newAggregates(t, client, o)
			holdsParts(t, c, *row, loads, 1)
			for _, edit := range []func(ch *Changes[parts]){
				func(ch *Changes[parts]) { row.Parts["x"] = 1; PutPart(ch, "a", "x", 1) },
				func(ch *Changes[parts]) {
					row.Head, row.Parts["x"], row.Parts[""] = 2, 3, 4
					PutHead(ch, "a", 2)
					PutPart(ch, "a", "x", 9)
					PutPart(ch, "a", "x", 3)
					PutPart(ch, "a", "", 4)
				},
				func(ch *Changes[parts]) {
					delete(row.Parts, "x")
					RemovePart(ch, "a", "x")
					RemovePart(ch, "a", "none")
				},
				func(ch *Changes[parts]) { row.Head = 7; PutHead(ch, "a", 7) },
				func(ch *Changes[parts]) { // all, and then a part
					*row = parts{Head: 8, Parts: map[string]int{"y": 1, "z": 2}}
					whole := parts{Head: 9, Parts: map[string]int{"y": 1, "w": 2}}
					ch.Put("a", whole)
					PutHead(ch, "a", 8)
					PutPart(ch, "a", "z", 2)
					RemovePart(ch, "a", "w")
					if len(whole.Parts) != 2 || whole.Parts["w"] != 2 {
						t.Errorf("the caller's map became %v", whole.Parts)
					}
				},
			} {
				ch := c.Changes()
				edit(ch)
				commits(t, ch)
				holdsParts(t, c, *row, loads, 1)
			}
			ch := c.Changes()
			row.Head++
			ch.Invalidate("a")
			PutHead(ch, "a", 100) // does not make known what was not
			commits(t, ch)
			holdsParts(t, c, *row, loads, 2)
		})
	}
}

// Parts are written only into a state that is there, and right.
func TestAggregateCache_takes_out_what_it_cannot_write_a_part_of(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *miniredis.Miniredis, c *Cache[parts], v, g string){
		"nothing there":           func(s *miniredis.Miniredis, _ *Cache[parts], _, _ string) { s.FlushAll() },
		"no state":                func(s *miniredis.Miniredis, _ *Cache[parts], v, _ string) { s.Del(v) },
		"no guard":                func(s *miniredis.Miniredis, _ *Cache[parts], _, g string) { s.Del(g) },
		"another guard":           func(s *miniredis.Miniredis, _ *Cache[parts], _, g string) { _ = s.Set(g, "other") },
		"no head":                 func(s *miniredis.Miniredis, _ *Cache[parts], v, _ string) { s.HDel(v, headField) },
		"a state of another type": func(s *miniredis.Miniredis, _ *Cache[parts], v, _ string) { s.Del(v); _ = s.Set(v, "x") },
		"a head that is no head": func(s *miniredis.Miniredis, _ *Cache[parts], v, g string) {
			h, _ := s.Get(g)
			s.HSet(v, headField, h+":x y")
		},
		"a state that is too large":  func(_ *miniredis.Miniredis, c *Cache[parts], _, _ string) { c.text.max = 4 },
		"a part that JSON cannot be": func(_ *miniredis.Miniredis, c *Cache[parts], _, _ string) { c.text.codec = mute{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			c, row, loads := newAggregates(t, newClient(t, server), quiet())
			row.Parts["x"] = 1
			holdsParts(t, c, *row, loads, 1)
			row.Head, row.Parts["x"] = 1, 2 // without a word: what was there is not right any more
			spoil(server, c, c.space.State("workflow", "a"), c.space.StateGuard("workflow", "a"))
			ch := c.Changes()
			row.Parts["y"] = 3
			PutPart(ch, "a", "y", 3)
			commits(t, ch)
			c.text.codec, c.text.max = stdCodec{}, DefaultMaxConfigBytes
			holdsParts(t, c, *row, loads, 2)
			holdsParts(t, c, *row, loads, 2)
		})
	}
}

func TestAggregateCache_takes_damage_for_a_miss(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(s *miniredis.Miniredis, v, g string){
		"a part is missing":           func(s *miniredis.Miniredis, v, _ string) { s.HDel(v, partField+"x") },
		"a part too many":             func(s *miniredis.Miniredis, v, _ string) { s.HSet(v, partField+"z", s.HGet(v, partField+"x")) },
		"a field that is none of its": func(s *miniredis.Miniredis, v, _ string) { s.HDel(v, partField+"x"); s.HSet(v, "other", "1") },
		"a part of another making": func(s *miniredis.Miniredis, v, _ string) {
			s.HSet(v, partField+"x", strings.Repeat("A", 26)+s.HGet(v, partField+"x")[26:])
		},
		"a part cut short":       func(s *miniredis.Miniredis, v, _ string) { s.HSet(v, partField+"x", s.HGet(v, partField+"x")[:28]) },
		"no head":                func(s *miniredis.Miniredis, v, _ string) { s.HDel(v, headField) },
		"a head cut short":       func(s *miniredis.Miniredis, v, _ string) { s.HSet(v, headField, s.HGet(v, headField)[:60]) },
		"a string":               func(s *miniredis.Miniredis, v, _ string) { s.Del(v); _ = s.Set(v, "x") },
		"a guard that is a hash": func(s *miniredis.Miniredis, _, g string) { s.Del(g); s.HSet(g, "x", "y") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			c, row, loads := newAggregates(t, newClient(t, server), quiet())
			row.Parts["x"], row.Parts["y"] = 1, 2
			holdsParts(t, c, *row, loads, 1)
			row.Head = 5
			damage(server, c.space.State("workflow", "a"), c.space.StateGuard("workflow", "a"))
			holdsParts(t, c, *row, loads, 2)
		})
	}
}

// Parts that are put under others' names are not read.
func TestAggregateCache_binds_parts_to_their_names(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	o := quiet()
	o.Keys = ringOf(t, EncryptionKey{ID: "k1", Key: bytes.Repeat([]byte("k"), 32)})
	c, row, loads := newAggregates(t, newClient(t, server), o)
	row.Parts["x"], row.Parts["y"] = 1, 2
	holdsParts(t, c, *row, loads, 1)
	v := c.space.State("workflow", "a")
	x, y := server.HGet(v, partField+"x"), server.HGet(v, partField+"y")
	server.HSet(v, partField+"x", y, partField+"y", x)
	holdsParts(t, c, *row, loads, 2)
}

// What is not written anew is not used for longer than it would have been.
func TestAggregateCache_does_not_live_longer_by_its_parts(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	c, row, loads := newAggregates(t, newClient(t, server), quiet())
	holdsParts(t, c, *row, loads, 1)
	for i := range 3 {
		server.FastForward(DefaultCacheTTL / 4)
		row.Parts["x"] = i
		ch := c.Changes()
		PutPart(ch, "a", "x", i)
		commits(t, ch)
		holdsParts(t, c, *row, loads, 1)
	}
	server.FastForward(DefaultCacheTTL / 4)
	holdsParts(t, c, *row, loads, 2)
}

func TestAggregateCache_keeps_nothing_that_is_too_large_as_a_whole(t *testing.T) {
	t.Parallel()
	c, row, loads := newAggregates(t, newClient(t, newServer(t)), quiet())
	c.text.max = 20
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		row.Parts[name] = 100
	}
	holdsParts(t, c, *row, loads, 1)
	holdsParts(t, c, *row, loads, 2)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	client, r := newClient(t, newServer(t)), newRows("a", "b")
	c := newCache(t, client, r, quiet())
	ctx := t.Context()
	has(t, c, r, 1, 1)

	forgotten := c.Changes() // its transaction is rolled back
	forgotten.Put("a", hotState{Version: 9})
	has(t, c, r, 1, 1)

	broken := errors.New("broken")
	ch := c.Changes()
	called := 0
	commit := func(context.Context) error { called++; return nil }
	if err := ch.Commit(ctx, func(context.Context) error { called++; return broken }); !errors.Is(err, broken) || called != 1 {
		t.Errorf("with nothing collected it gives %v after %d commits", err, called)
	}
	has(t, c, r, 1, 1)

	ch.Invalidate("")
	if err := ch.Commit(ctx, commit); !errors.Is(err, ErrInvalidKey) || called != 1 {
		t.Errorf("it gives %v after %d commits", err, called)
	}

	ch = c.Changes()
	ch.Put("a", r.write("a"))
	ch.Put("b", r.write("b"))
	ch.Invalidate("b")
	has(t, c, r, 1, 1) // as it is until it is committed: this database has no transactions
	if err := ch.Commit(ctx, commit); err != nil || called != 2 {
		t.Errorf("it gives %v after %d commits", err, called)
	}
	has(t, c, r, 2, 1)
	if got, err := c.Get(ctx, "b"); got.Version != 2 || err != nil || r.loads.Load() != 2 {
		t.Errorf("b is %+v, %v after %d loads", got, err, r.loads.Load())
	}
	r.write("a")
	if err := ch.Commit(ctx, commit); err != nil || called != 3 { // it is empty
		t.Errorf("it gives %v after %d commits", err, called)
	}
	has(t, c, r, 2, 2)

	_ = c.Close()
	ch.Put("a", hotState{})
	if err := ch.Commit(ctx, commit); !errors.Is(err, ErrClosed) || called != 3 {
		t.Errorf("closed it gives %v after %d commits", err, called)
	}
}

// If Redis does not take the mark, nothing is committed, and the same can be
// tried again.
func TestChanges_can_be_committed_again_if_they_were_not(t *testing.T) {
	t.Parallel()
	client, down, r := newClient(t, newServer(t)), new(outage), newRows("a")
	client.AddHook(down)
	c := newCache(t, client, r, quiet())
	ch := c.Changes()
	ch.Put("a", hotState{Version: 5})
	down.on.Store(true)
	if err := ch.Commit(t.Context(), func(context.Context) error { t.Error("committed"); return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("it gives %v", err)
	}
	down.on.Store(false)
	if err := ch.Commit(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	has(t, c, r, 5, 0)
}

// Of two caches in one transaction, the inner may be refused when the outer has
// its mark already.
func TestChanges_of_several_caches_can_be_committed_again_if_they_were_not(t *testing.T) {
	t.Parallel()
	client, down := newClient(t, newServer(t)), new(outage)
	other := newClient(t, newServer(t))
	other.AddHook(down)
	r, ir := newRows("a"), newRows("a")
	c, inner := newCache(t, client, r, quiet()), newCache(t, other, ir, quiet())
	ch, ich := c.Changes(), inner.Changes()
	ch.Put("a", hotState{Version: 5})
	ich.Put("a", hotState{Version: 6})
	commits := 0
	commit := func() error {
		return ch.Commit(t.Context(), func(ctx context.Context) error {
			return ich.Commit(ctx, func(context.Context) error { commits++; return nil })
		})
	}
	down.on.Store(true)
	if err := commit(); !errors.Is(err, ErrUnavailable) || commits != 0 {
		t.Errorf("it gives %v after %d commits", err, commits)
	}
	if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnknown)); n != 0 {
		t.Errorf("%v changes are counted as unknown", n)
	}
	has(t, c, r, 1, 1)
	has(t, c, r, 1, 1)
	down.on.Store(false)
	if err := commit(); err != nil || commits != 1 {
		t.Errorf("it gives %v after %d commits", err, commits)
	}
	has(t, c, r, 5, 1)
	has(t, inner, ir, 6, 0)
}
