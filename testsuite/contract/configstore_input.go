package contract

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// refusesEntry fails the test unless saving e together with good entries gives
// a one-line error that is want, and nothing was written.
func refusesEntry(tb testing.TB, s redisstate.ConfigStore, e redisstate.Entry, want error) {
	tb.Helper()
	refs, err := s.Set(tb.Context(),
		redisstate.Entry{ID: "good-1", Workflow: "good", Value: 1}, e, redisstate.Entry{ID: "good-2", Workflow: "good", Value: 2})
	if !errors.Is(err, want) || refs != nil {
		tb.Fatalf("set gave %v and the error %v; want %v", refs, err, want)
	}
	oneLine(tb, err)
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{})
	same(tb, "of the workflow", lists(tb, s, redisstate.Scope{Workflow: "good"}), []string{})
}

func oneLine(tb testing.TB, err error) {
	tb.Helper()
	if text := err.Error(); strings.Contains(text, "\n") || len(text) > 400 {
		tb.Fatalf("not one short line: %q", text)
	}
}

func writesAllOrNothing(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	refusesEntry(tb, s, redisstate.Entry{ID: "", Value: 1}, redisstate.ErrInvalidKey)
	// Everything that is wrong is told at once.
	_, err := s.Set(tb.Context(),
		redisstate.Entry{ID: "", Value: 1}, redisstate.Entry{ID: "a", Value: nil}, redisstate.Entry{ID: "b", Value: 2})
	if !errors.Is(err, redisstate.ErrInvalidKey) || !errors.Is(err, redisstate.ErrInvalidValue) {
		tb.Fatalf("set gave %v; want both reasons", err)
	}
	if text := err.Error(); !strings.Contains(text, "entry 1 of 3") || !strings.Contains(text, "entry 2 of 3") || strings.Contains(text, "entry 3") {
		tb.Fatalf("the error does not say which entries: %v", err)
	}
}

func badIDs() []string {
	return []string{"", strings.Repeat("x", 1025), strings.Repeat("x", 10_000), "\xff\xfe", "a\xc3"}
}

func refusesBadKeys(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	good := save(tb, b.Open(tb, redisstate.Options{}), "kept", 1)
	check := func(what string, err error) {
		tb.Helper()
		if !errors.Is(err, redisstate.ErrInvalidKey) {
			tb.Fatalf("%s: got %v; want ErrInvalidKey", what, err)
		}
		oneLine(tb, err)
	}
	bad := []redisstate.Key{
		{ID: "kept", Digest: "sha256:"},
		{ID: "kept", Digest: redisstate.Digest(strings.Repeat("0", 64))},
		{ID: "kept", Digest: redisstate.Digest("sha256:" + strings.Repeat("g", 64))},
		{ID: "kept", Digest: redisstate.Digest(strings.ToUpper(string(good.Digest)))},
		{ID: "kept", Digest: good.Digest + "0"},
	}
	for _, id := range badIDs() {
		bad = append(bad, redisstate.ID(id))
		_, err := s.Set(tb.Context(), redisstate.Entry{ID: id, Value: 1})
		check("set", err)
	}
	for _, key := range bad {
		_, err := s.Get(tb.Context(), key)
		check("get", err)
		_, err = s.GetMany(tb.Context(), redisstate.ID("kept"), key)
		check("get many", err)
		n, err := s.Delete(tb.Context(), redisstate.ID("kept"), key)
		check("delete", err)
		if n != 0 {
			tb.Fatalf("deleted %d beside a bad key", n)
		}
	}
	for _, id := range badIDs()[1:] {
		_, err := s.Set(tb.Context(), redisstate.Entry{ID: "a", Workflow: id, Value: 1})
		check("set with a workflow", err)
		for _, err := range s.Scan(tb.Context(), redisstate.Scope{Workflow: id}) {
			check("scan", err)
		}
	}
	for _, err := range s.Scan(tb.Context(), redisstate.Scope{Prefix: strings.Repeat("x", 1025)}) {
		check("scan by prefix", err)
	}
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{"kept"})
}

func refusesBadValues(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	for name, value := range map[string]any{
		"nil":                   nil,
		"a pointer to nothing":  (*struct{ Name string })(nil),
		"no JSON":               []byte("not json"),
		"nothing":               []byte{},
		"two values":            []byte("1 2"),
		"cut short":             []byte(`{"a":`),
		"a trailing comma":      []byte(`{"a":1,}`),
		"a member twice":        []byte(`{"a":1,"b":2,"a":3}`),
		"a member twice inside": []byte(`[{"x":{"a":1,"\u0061":3}}]`),
		"not UTF-8":             []byte("\"\xff\""),
		"a channel":             make(chan int),
		"not a number":          math.NaN(),
		"nested too deep":       []byte(strings.Repeat("[", 10_100) + strings.Repeat("]", 10_100)),
	} {
		_, err := s.Set(tb.Context(), redisstate.Entry{ID: "a", Value: value})
		if !errors.Is(err, redisstate.ErrInvalidValue) {
			tb.Fatalf("%s: got %v; want ErrInvalidValue", name, err)
		}
		oneLine(tb, err)
		refusesEntry(tb, s, redisstate.Entry{ID: "a", Value: value}, redisstate.ErrInvalidValue)
	}
	for _, ttl := range []time.Duration{-1, time.Microsecond, -time.Hour} {
		refusesEntry(tb, s, redisstate.Entry{ID: "a", Value: 1, TTL: ttl}, redisstate.ErrInvalidValue)
	}
}

func refusesTooLarge(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{MaxConfigBytes: 100})
	fits := strings.Repeat("x", 98) // and two quotes
	refusesEntry(tb, s, redisstate.Entry{ID: "a", Value: fits + "x"}, redisstate.ErrTooLarge)
	_, err := s.Set(tb.Context(), redisstate.Entry{ID: "a", Value: fits + "x"})
	if err == nil || !strings.Contains(err.Error(), "MaxConfigBytes") {
		tb.Fatalf("the error does not name the option: %v", err)
	}
	save(tb, s, "a", fits)
	save(tb, s, "b", []byte("  \""+fits+"\"  ")) // counted as it is stored
	reads(tb, s, redisstate.ID("b"), fits)
}

// damaged are stored values that are not what was saved.
func damaged(raw []byte) map[string][]byte {
	flip := func(at int) []byte {
		bad := slices.Clone(raw)
		bad[at] ^= 1
		return bad
	}
	return map[string][]byte{
		"changed content": flip(len(raw) - 2),
		"changed digest":  flip(10),
		"cut in content":  raw[:len(raw)-1],
		"cut in header":   raw[:20],
		"longer":          append(slices.Clone(raw), ' '),
		"empty":           {},
		"zeros":           make([]byte, 50),
		"foreign JSON":    []byte(`{"id":"a"}`),
		"foreign text":    []byte("hello"),
	}
}

func tellsCorrupt(tb testing.TB, b ConfigStoreBackend) {
	ref := save(tb, b.Open(tb, redisstate.Options{}), "a", basic("a", 1))
	for name, raw := range damaged(b.Stored(tb, redisstate.ID("a"))) {
		b.Damage(tb, redisstate.ID("a"), raw)
		reader := b.Open(tb, redisstate.Options{})
		for _, key := range []redisstate.Key{redisstate.ID("a"), ref.Key()} {
			_, err := reader.Get(tb.Context(), key)
			missing := key.Digest != "" && errors.Is(err, redisstate.ErrNotFound) // it is other content
			if !errors.Is(err, redisstate.ErrCorrupt) && !missing {
				tb.Fatalf("%s: got %v; want ErrCorrupt", name, err)
			}
			oneLine(tb, err)
		}
	}
}

func tellsNewerFormat(tb testing.TB, b ConfigStoreBackend) {
	ref := save(tb, b.Open(tb, redisstate.Options{}), "a", basic("a", 1))
	raw := b.Stored(tb, redisstate.ID("a"))
	for at, bit := range []byte{0x02, 0x80} { // of the version, of the flags
		newer := slices.Clone(raw)
		newer[at] |= bit
		b.Damage(tb, redisstate.ID("a"), newer)
		reader := b.Open(tb, redisstate.Options{})
		for _, key := range []redisstate.Key{redisstate.ID("a"), ref.Key()} {
			refuses(tb, reader, key, redisstate.ErrNewerFormat)
		}
		if _, err := reader.Get(tb.Context(), redisstate.ID("a")); errors.Is(err, redisstate.ErrCorrupt) {
			tb.Fatalf("bit %#x of byte %d: called corrupt: %v", bit, at, err)
		}
	}
}

func tellsWrongType(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	b.Damage(tb, redisstate.ID("a"), nil)
	refuses(tb, s, redisstate.ID("a"), redisstate.ErrWrongType)
	if _, err := s.Set(tb.Context(), redisstate.Entry{ID: "a", Value: 1}); !errors.Is(err, redisstate.ErrWrongType) {
		tb.Fatalf("set gave %v; want ErrWrongType", err)
	}
}

func refusesDamagedAside(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	old := save(tb, s, "a", basic("a", 1))
	save(tb, s, "a", basic("a", 2))
	bad := damaged(b.Stored(tb, old.Key()))
	bad["the current content"] = b.Stored(tb, redisstate.ID("a"))
	for name, raw := range bad {
		b.Damage(tb, old.Key(), raw)
		config, err := b.Open(tb, redisstate.Options{}).Get(tb.Context(), old.Key())
		if !errors.Is(err, redisstate.ErrCorrupt) {
			tb.Fatalf("%s: got %s, %v; want ErrCorrupt", name, config.JSON(), err)
		}
	}
}

func readsBesideBad(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	for i := range 5 {
		save(tb, s, fmt.Sprintf("c%d", i), basic("c", int64(i)))
	}
	b.Damage(tb, redisstate.ID("c1"), []byte("hello"))
	b.Damage(tb, redisstate.ID("c3"), nil)
	var keys []redisstate.Key
	for i := range 6 {
		keys = append(keys, redisstate.ID(fmt.Sprintf("c%d", i)))
	}
	found, err := b.Open(tb, redisstate.Options{}).GetMany(tb.Context(), keys...)
	if !errors.Is(err, redisstate.ErrCorrupt) || !errors.Is(err, redisstate.ErrWrongType) {
		tb.Fatalf("got %v; want ErrCorrupt and ErrWrongType", err)
	}
	if len(found) != 3 {
		tb.Fatalf("found %d beside two bad ones; want 3", len(found))
	}
	for _, i := range []int64{0, 2, 4} {
		sameJSON(tb, found[keys[i]], basic("c", i))
	}
}

func healsBySaving(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", basic("a", 1))
	for name, raw := range damaged(b.Stored(tb, redisstate.ID("a"))) {
		b.Damage(tb, redisstate.ID("a"), raw)
		if again := save(tb, b.Open(tb, redisstate.Options{}), "a", basic("a", 1)); again != ref {
			tb.Fatalf("%s: the ref changed from %v to %v", name, ref, again)
		}
		reads(tb, b.Open(tb, redisstate.Options{}), ref.Key(), basic("a", 1))
	}
}
