package redisstate

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// counts are the cache metrics of a registry's store.
func counts(t *testing.T, reg prometheus.Registerer) (nearHits, nearMisses, hits, misses int) {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	read := func(v *prometheus.CounterVec, label string) int {
		return int(testutil.ToFloat64(v.WithLabelValues(label)))
	}
	m := tel.Metrics
	return read(m.CacheHits, telemetry.CacheNear), read(m.CacheMisses, telemetry.CacheNear),
		read(m.CacheHits, telemetry.CacheRedis), read(m.CacheMisses, telemetry.CacheRedis)
}

func TestNear_answers_refs_without_Redis(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	o := quiet()
	store := newStore(t, newClient(t, server), o)
	typed := For[doc](store)
	ref, err := typed.Set(t.Context(), "wf", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	for range 3 {
		if got, gotRef, err := typed.Get(t.Context(), ref.Key()); err != nil || got.N != 1 || gotRef != ref {
			t.Fatalf("got %v, %v, %v", got, gotRef, err)
		}
	}
	if found, err := typed.GetMany(t.Context(), ref.Key()); err != nil || found[ref.Key()].N != 1 {
		t.Fatalf("got %v, %v", found, err)
	}
	if hits, misses, redisHits, redisMisses := counts(t, o.Registerer); hits != 4 || misses != 0 || redisHits != 0 || redisMisses != 0 {
		t.Fatalf("counted %d, %d, %d, %d; want 4 near hits", hits, misses, redisHits, redisMisses)
	}
}

func TestNear_counts_what_each_cache_answers(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	writer := newStore(t, newClient(t, server), quiet())
	ref, err := For[doc](writer).Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	o := quiet()
	store := newStore(t, newClient(t, server), o)
	for _, key := range []Key{ref.Key(), ref.Key(), ID("a"), ID("b")} { // near miss + hit, near hit, hit, miss
		_, _ = store.Get(t.Context(), key)
	}
	_, _ = store.GetMany(t.Context(), ref.Key(), ID("a"), ID("b"))
	if a, b, c, d := counts(t, o.Registerer); a != 2 || b != 1 || c != 3 || d != 2 {
		t.Fatalf("counted near %d/%d, Redis %d/%d; want 2/1, 3/2", a, b, c, d)
	}
}

func TestNear_tells_without_a_read(t *testing.T) {
	t.Parallel()
	o := byKey()
	store := newStore(t, newClient(t, newServer(t)), o)
	hearsBells(t, store)
	saves(t, store, Entry{ID: "a", Value: 1})
	_, err := store.Get(t.Context(), ID("a")) // remembers what it is now
	pinned := Ref{ID: "a", Digest: currentDigest(t, store, "a")}.Key()
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(counts(t, o.Registerer))
	other := Ref{ID: "b", Digest: pinned.Digest}.Key()
	if !store.Near(pinned) || !store.Near(ID("a")) || store.Near(ID("b")) || store.Near(other) {
		t.Error("it does not know what it has")
	}
	if after := fmt.Sprint(counts(t, o.Registerer)); after != before {
		t.Errorf("it counted %s; before %s", after, before)
	}
	if err := store.Close(); err != nil || store.Near(pinned) {
		t.Errorf("closed, it has it still (%v)", err)
	}
}

func TestNear_reads_by_id_always_ask_Redis(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	one, two := newStore(t, newClient(t, server), quiet()), newStore(t, newClient(t, server), quiet())
	for i := range 3 {
		if _, err := For[doc](one).Set(t.Context(), "", "a", &doc{"a", i}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := For[doc](two).Get(t.Context(), ID("a")); err != nil || got.N != i {
			t.Fatalf("got %v, %v; want %d", got, err, i)
		}
	}
}

func TestNear_decodes_a_digest_once_per_type(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	ref, err := For[doc](store).Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := For[doc](store).Set(t.Context(), "", "b", &doc{"a", 1}) // same content, other id
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	got := make([]*doc, 32)
	for i := range got {
		key := []Key{ref.Key(), other.Key(), ID("a"), ID("b")}[i%4]
		all.Go(func() { got[i], _, _ = For[doc](store).Get(t.Context(), key) })
	}
	all.Wait()
	for i, v := range got {
		if v == nil || v != got[0] {
			t.Fatalf("reader %d got another value: %v", i, v)
		}
	}
	generic, _, err := For[map[string]any](store).Get(t.Context(), ref.Key())
	if err != nil || (*generic)["name"] != "a" {
		t.Fatalf("got %v, %v", generic, err)
	}
	if again, _, _ := For[map[string]any](store).Get(t.Context(), other.Key()); again != generic {
		t.Fatal("the second type was decoded twice")
	}
	if again, _, _ := For[doc](store).Get(t.Context(), ref.Key()); again != got[0] {
		t.Fatal("the first type was decoded again")
	}
}

func TestNear_stays_within_its_bytes(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	o := quiet()
	o.NearCacheBytes = 100 << 10
	store := newStore(t, newClient(t, server), o)
	for i := range 200 {
		if _, err := store.Set(t.Context(), Entry{ID: fmt.Sprint(i), Value: strings.Repeat(fmt.Sprintf("%04d", i), 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	store.near.cache.CleanUp()
	if kept := store.near.cache.WeightedSize(); kept > 100<<10 || kept == 0 {
		t.Fatalf("keeps %d bytes; want at most %d", kept, 100<<10)
	}
}

func TestNear_bounds_what_it_keeps_of_an_id(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	for i := range 3 * maxKnown {
		if _, err := store.Set(t.Context(), Entry{ID: "a", Value: i}); err != nil {
			t.Fatal(err)
		}
	}
	e, ok := store.near.cache.GetIfPresent("a")
	if !ok || len(e.earlier) != maxKnown-1 {
		t.Fatalf("keeps %d contents; want %d", len(e.earlier)+1, maxKnown)
	}
}

func TestNear_can_be_left_out(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	o := quiet()
	o.NearCacheBytes = -1
	store := newStore(t, newClient(t, server), o)
	ref, err := For[doc](store).Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	hits := func() int { _, _, n, _ := counts(t, o.Registerer); return n }
	for range 3 {
		if _, _, err := For[doc](store).Get(t.Context(), ref.Key()); err != nil {
			t.Fatal(err)
		}
	}
	if asked := hits(); asked != 3 {
		t.Fatalf("asked Redis %d times; want 3", asked)
	}
}

func TestNear_forgets_what_is_deleted_here(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	ref, err := For[doc](store).Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Delete(t.Context(), ID("a")); err != nil {
		t.Fatal(err)
	}
	if store.near.get(ref.Key()) != nil {
		t.Fatal("the near cache still has it")
	}
}

func TestNear_hit_allocates_nothing(t *testing.T) {
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	typed := For[doc](store)
	ref, err := typed.Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	key, ctx := ref.Key(), t.Context()
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = typed.Get(ctx, key) }); n > 0.01 {
		t.Fatalf("a near hit allocates %v times", n)
	}
}

func TestContents_share_what_is_in_use_and_keep_nothing_alive(t *testing.T) {
	t.Parallel()
	var table contents
	first, s := newContentOf([]byte(`1`), stdCodec{})
	if got := table.share(s, first); got != first {
		t.Fatal("the first is not shared")
	}
	second, _ := newContentOf([]byte(`1`), stdCodec{})
	if got := table.share(s, second); got != first || table.get(s) != first {
		t.Fatal("the second is not the first")
	}
	gone := weak.Make(first)
	runtime.KeepAlive(first)
	for range 20 {
		runtime.GC()
		if gone.Value() == nil {
			break
		}
	}
	if gone.Value() != nil || table.get(s) != nil {
		t.Fatal("the table keeps the content alive")
	}
	if got := table.share(s, second); got != second || table.get(s) != second {
		t.Fatal("the second is not shared after the first is gone")
	}
}
