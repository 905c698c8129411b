package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compozy/temporal-redis/redisstate"
)

// task is a config as hosts have them.
type task struct {
	ID     string            `json:"id"`
	Type   string            `json:"type"`
	With   map[string]any    `json:"with,omitempty"`
	Env    map[string]string `json:"env,omitempty"`
	Weight int64             `json:"weight"`
}

func basic(id string, weight int64) task {
	return task{ID: id, Type: "basic", Weight: weight, With: map[string]any{"path": "/src", "depth": 3.5}}
}

// save saves one config and gives its ref.
func save(tb testing.TB, s redisstate.ConfigStore, id string, v any) redisstate.Ref {
	tb.Helper()
	return saveEntry(tb, s, redisstate.Entry{ID: id, Workflow: "wf", Value: v})
}

func saveEntry(tb testing.TB, s redisstate.ConfigStore, e redisstate.Entry) redisstate.Ref {
	tb.Helper()
	refs, err := s.Set(tb.Context(), e)
	if err != nil {
		tb.Fatalf("set: %v", err)
	}
	if len(refs) != 1 || refs[0].ID != e.ID {
		tb.Fatalf("set gave the refs %v", refs)
	}
	return refs[0]
}

// reads fails the test unless key gives exactly the JSON of want.
func reads(tb testing.TB, s redisstate.ConfigStore, key redisstate.Key, want any) redisstate.Config {
	tb.Helper()
	config, err := s.Get(tb.Context(), key)
	if err != nil {
		tb.Fatalf("get: %v", err)
	}
	sameJSON(tb, config, want)
	if config.Ref.ID != key.ID || (key.Digest != "" && config.Ref.Digest != key.Digest) {
		tb.Fatalf("get gave another ref: %v for %v", config.Ref, key)
	}
	return config
}

func sameJSON(tb testing.TB, config redisstate.Config, want any) {
	tb.Helper()
	wanted, err := redisstate.NewConfig(config.Ref.ID, config.Workflow, want)
	if err != nil {
		tb.Fatal(err)
	}
	if got := config.JSON(); string(got) != string(wanted.JSON()) || config.Ref.Digest != wanted.Ref.Digest {
		tb.Fatalf("get gave %s; want %s", got, wanted.JSON())
	}
}

// refuses fails the test unless key gives an error that is want.
func refuses(tb testing.TB, s redisstate.ConfigStore, key redisstate.Key, want error) {
	tb.Helper()
	config, err := s.Get(tb.Context(), key)
	if !errors.Is(err, want) {
		tb.Fatalf("get gave %s and the error %v; want %v", config.JSON(), err, want)
	}
}

// lists gives the ids of a scope in order.
func lists(tb testing.TB, s redisstate.ConfigStore, scope redisstate.Scope) []string {
	tb.Helper()
	ids := []string{}
	for key, err := range s.Scan(tb.Context(), scope) {
		if err != nil {
			tb.Fatalf("scan: %v", err)
		}
		if key.Digest != "" {
			tb.Fatalf("scan gave a pinned key: %v", key)
		}
		ids = append(ids, key.ID)
	}
	slices.Sort(ids)
	return ids
}

func same(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	if slices.Equal(got, want) {
		return
	}
	without := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
	}
	tb.Fatalf("%s: got %d, want %d; missing %.200q, too many %.200q",
		what, len(got), len(want), without(want, got), without(got, want))
}

func givesBack(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	want := basic("a", 1)
	ref := saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "wf-1", Value: want})
	for _, key := range []redisstate.Key{redisstate.ID("a"), ref.Key()} {
		config := reads(tb, s, key, want)
		if config.Workflow != "wf-1" || config.Ref != ref {
			tb.Fatalf("the config is of workflow %q with ref %v; want wf-1 and %v", config.Workflow, config.Ref, ref)
		}
		decoded, err := redisstate.Decode[task](config)
		if err != nil || decoded.Weight != 1 || decoded.With["depth"] != 3.5 {
			tb.Fatalf("decoded to %+v, %v", decoded, err)
		}
	}
	if !strings.HasPrefix(string(ref.Digest), redisstate.DigestPrefix) {
		tb.Fatalf("the digest is %q", ref.Digest)
	}
}

func equalRefs(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", json.RawMessage(`{"id":"a","n":[1,2],"s":"é<\n"}`))
	for _, equal := range []any{
		[]byte("{\n\t\"s\" : \"\\u00e9\\u003C\\n\", \"n\":[ 1,2 ] , \"id\":\"\\u0061\"}"),
		map[string]any{"s": "é<\n", "id": "a", "n": []int{1, 2}},
		struct {
			S  string `json:"s"`
			N  []int  `json:"n"`
			ID string `json:"id"`
		}{"é<\n", []int{1, 2}, "a"},
	} {
		if again := save(tb, s, "a", equal); again != ref {
			tb.Fatalf("%v has the ref %v; want %v", equal, again, ref)
		}
	}
}

func differentRefs(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	seen := make(map[redisstate.Digest]string)
	for _, text := range []string{`1`, `1.0`, `"1"`, `[1]`, `{"a":1}`, `{"a":"1"}`, `{"a":[1]}`, `{"A":1}`, `""`, `null`, `{}`, `[]`, `false`} {
		ref := save(tb, s, "a", json.RawMessage(text))
		if other, taken := seen[ref.Digest]; taken {
			tb.Fatalf("%s and %s have the same digest", text, other)
		}
		seen[ref.Digest] = text
	}
}

func keepsExactly(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	const text = `{"big":9223372036854775807,"deep":[[[{"x":[]}]]],"e":1e400,"s":"\u0000\" \\ / 😀 \ud800 é","z":-0.0}`
	ref := save(tb, s, "a", json.RawMessage(text))
	config := reads(tb, b.Open(tb, redisstate.Options{}), ref.Key(), json.RawMessage(text))
	if got := string(config.JSON()); got != text {
		tb.Fatalf("kept %s; want %s", got, text)
	}
	if n, err := redisstate.Decode[struct{ Big int64 }](config); err != nil || n.Big != 9223372036854775807 {
		tb.Fatalf("decoded %v, %v", n, err)
	}
}

func takesAnyID(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ids := []string{
		"{}:*?[]", "a:b@c", "line\nbreak", "%25", "ключ-鍵-🔑", " ", ".", "a/b\\c", "\x00", "\"'`",
		strings.Repeat("x", 1024), strings.Repeat("{", 1024),
	}
	refs := make(map[string]redisstate.Ref)
	for i, id := range ids {
		refs[id] = saveEntry(tb, s, redisstate.Entry{ID: id, Workflow: "w{}:*\n", Value: basic(id, int64(i))})
	}
	other := b.Open(tb, redisstate.Options{})
	for i, id := range ids {
		reads(tb, other, redisstate.ID(id), basic(id, int64(i)))
		reads(tb, other, refs[id].Key(), basic(id, int64(i)))
	}
	slices.Sort(ids)
	same(tb, "of the workflow", lists(tb, s, redisstate.Scope{Workflow: "w{}:*\n"}), ids)
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), ids)
}

func keepsIDsApart(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", basic("a", 0))
	save(tb, s, "a", basic("a", -1)) // now a's first content is put aside
	ids := []string{"a:b", "a%3Ab", "a%253Ab", "a@" + string(ref.Digest), "A", "a ", "a\x00"}
	for i, id := range ids {
		save(tb, s, id, basic(id, int64(i+1)))
	}
	other := b.Open(tb, redisstate.Options{})
	for i, id := range ids {
		reads(tb, other, redisstate.ID(id), basic(id, int64(i+1)))
	}
	reads(tb, other, redisstate.ID("a"), basic("a", -1))
	reads(tb, other, ref.Key(), basic("a", 0))
}

func findsOnlySaved(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", basic("a", 1))
	unknown := redisstate.Digest(redisstate.DigestPrefix + strings.Repeat("0", 64))
	for _, key := range []redisstate.Key{
		redisstate.ID("b"),
		{ID: "b", Digest: ref.Digest}, // right content, other id
		{ID: "a", Digest: unknown},
		{ID: "b", Digest: unknown},
	} {
		refuses(tb, s, key, redisstate.ErrNotFound)
	}
}

func showsOthers(tb testing.TB, b ConfigStoreBackend) {
	one, two := b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{})
	refuses(tb, two, redisstate.ID("a"), redisstate.ErrNotFound)
	ref := save(tb, one, "a", basic("a", 1))
	reads(tb, two, redisstate.ID("a"), basic("a", 1))
	reads(tb, two, ref.Key(), basic("a", 1))
	same(tb, "of the workflow", lists(tb, two, redisstate.Scope{Workflow: "wf"}), []string{"a"})
}

func readsCurrent(tb testing.TB, b ConfigStoreBackend) {
	one, two := b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{})
	for i := range int64(5) {
		save(tb, one, "a", basic("a", i))
		reads(tb, one, redisstate.ID("a"), basic("a", i))
		reads(tb, two, redisstate.ID("a"), basic("a", i))
	}
}

func readsOverwritten(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	first := save(tb, s, "a", basic("a", 1))
	second := save(tb, s, "a", basic("a", 2))
	for _, reader := range []Store{s, b.Open(tb, redisstate.Options{})} {
		reads(tb, reader, first.Key(), basic("a", 1))
		reads(tb, reader, second.Key(), basic("a", 2))
		reads(tb, reader, redisstate.ID("a"), basic("a", 2))
	}
}

func readsThroughOverwrites(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	var refs []redisstate.Ref
	for i := range 30 {
		refs = append(refs, save(tb, s, "a", basic("a", int64(i%10)))) // each content comes back
	}
	other := b.Open(tb, redisstate.Options{})
	for i, ref := range refs {
		reads(tb, other, ref.Key(), basic("a", int64(i%10)))
	}
}

// Each writer reads by the refs it got, while the others overwrite.
func keepsContentUnderWriters(tb testing.TB, b ConfigStoreBackend) {
	const writers, rounds = 8, 15
	type saved struct {
		ref   redisstate.Ref
		value task
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var written []saved
	for w := range writers {
		writer, reader := b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{NearCacheBytes: -1})
		all.Go(func() {
			for r := range rounds {
				v := basic("a", int64(w*rounds+r))
				refs, err := writer.Set(tb.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: v})
				if err != nil {
					tb.Errorf("set: %v", err)
					return
				}
				mu.Lock()
				written = append(written, saved{refs[0], v})
				mu.Unlock()
				config, err := reader.Get(tb.Context(), refs[0].Key())
				if errors.Is(err, redisstate.ErrNotFound) {
					continue // between two writers: allowed for an instant, checked below
				}
				if got, decodeErr := redisstate.Decode[task](config); err != nil || decodeErr != nil || got.Weight != v.Weight {
					tb.Errorf("the ref of %d gave %+v, %v, %v", v.Weight, got, err, decodeErr)
				}
			}
		})
	}
	all.Wait()
	reader := b.Open(tb, redisstate.Options{})
	for _, w := range written {
		reads(tb, reader, w.ref.Key(), w.value)
	}
}

func stopsListing(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	for i := range 20 {
		save(tb, s, fmt.Sprintf("c%d", i), basic("c", int64(i)))
	}
	for _, scope := range []redisstate.Scope{{}, {Workflow: "wf"}, {Prefix: "c"}} {
		next, stop := iter.Pull2(s.Scan(tb.Context(), scope))
		for range 3 {
			if _, err, more := next(); err != nil || !more {
				tb.Fatalf("ended early: %v", err)
			}
		}
		stop()
	}
}

func endsWithContext(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, getErr := s.Get(ctx, redisstate.ID("a"))
	_, manyErr := s.GetMany(ctx, redisstate.ID("a"))
	_, setErr := s.Set(ctx, redisstate.Entry{ID: "a", Value: 1})
	_, deleteErr := s.Delete(ctx, redisstate.ID("a"))
	var scanErr error
	for _, err := range s.Scan(ctx, redisstate.Scope{Workflow: "wf"}) {
		scanErr = err
	}
	for name, err := range map[string]error{"get": getErr, "get many": manyErr, "set": setErr, "delete": deleteErr, "scan": scanErr} {
		if !errors.Is(err, context.Canceled) {
			tb.Errorf("%s gave %v; want context.Canceled", name, err)
		}
		if errors.Is(err, redisstate.ErrUnavailable) {
			tb.Errorf("%s blames Redis for the caller's giving up: %v", name, err)
		}
	}
	refuses(tb, s, redisstate.ID("a"), redisstate.ErrNotFound)
}
