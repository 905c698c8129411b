package contract

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

func setMetadata(tb testing.TB, s Store, name string, data []byte, ttl time.Duration) {
	tb.Helper()
	if err := s.SetMetadata(tb.Context(), name, data, ttl); err != nil {
		tb.Fatalf("set metadata: %v", err)
	}
}

func hasMetadata(tb testing.TB, s Store, name string, want []byte) {
	tb.Helper()
	if got, err := s.Metadata(tb.Context(), name); err != nil || !bytes.Equal(got, want) {
		tb.Fatalf("metadata is %.100q, %v; want %.100q", got, err, want)
	}
}

func lacksMetadata(tb testing.TB, s Store, name string) {
	tb.Helper()
	got, err := s.Metadata(tb.Context(), name)
	missing, ok := errors.AsType[*redisstate.MissingError](err)
	if !errors.Is(err, redisstate.ErrNotFound) || !ok || missing.Family != "metadata" {
		tb.Fatalf("metadata is %.100q, %v; want a MissingError of metadata", got, err)
	}
	oneLine(tb, err)
}

func keepsMetadata(tb testing.TB, b ConfigStoreBackend) {
	s, other := b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{})
	lacksMetadata(tb, s, "a")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, data := range [][]byte{all, {}, nil, []byte("\x00"), []byte(`{"n":1}`)} {
		for _, name := range []string{"a", "a:b", "{}*\n", "ключ", strings.Repeat("x", 1024)} {
			value := append(bytes.Clone(data), name...)
			setMetadata(tb, s, name, value, 0)
			hasMetadata(tb, s, name, value)
			hasMetadata(tb, other, name, value)
		}
		setMetadata(tb, s, "bare", data, 0)
		if got, err := other.Metadata(tb.Context(), "bare"); err != nil || !bytes.Equal(got, data) {
			tb.Fatalf("value %d came back as %q, %v", i, got, err)
		}
	}
	got, err := s.Metadata(tb.Context(), "bare")
	if err != nil {
		tb.Fatal(err)
	}
	got[0] = 'X' // the caller's own
	hasMetadata(tb, s, "bare", []byte(`{"n":1}`))
}

func keepsMetadataApart(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", basic("a", 1))
	setMetadata(tb, s, "a", []byte("meta"), 0)
	setMetadata(tb, s, "only", []byte("meta"), 0)
	reads(tb, s, ref.Key(), basic("a", 1))
	hasMetadata(tb, s, "a", []byte("meta"))
	refuses(tb, s, redisstate.ID("only"), redisstate.ErrNotFound)
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{"a"})
	if n, err := s.DeleteMetadata(tb.Context(), "a"); err != nil || n != 1 {
		tb.Fatalf("deleted %d, %v", n, err)
	}
	other := b.Open(tb, redisstate.Options{})
	reads(tb, other, redisstate.ID("a"), basic("a", 1))
	if n, err := s.Delete(tb.Context(), redisstate.ID("a"), redisstate.ID("only")); err != nil || n != 1 {
		tb.Fatalf("deleted %d configs, %v; want 1", n, err)
	}
	hasMetadata(tb, other, "only", []byte("meta"))
}

func expiresMetadata(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	setMetadata(tb, s, "brief", []byte("1"), short/2)
	setMetadata(tb, s, "usual", []byte("2"), 0)
	setMetadata(tb, s, "long", []byte("3"), 2*short)
	setMetadata(tb, s, "shorter", []byte("4"), 2*short)
	setMetadata(tb, s, "shorter", []byte("4"), short/2) // the last one says
	b.Pass(tb, short*3/4)
	lacksMetadata(tb, s, "brief")
	lacksMetadata(tb, s, "shorter")
	hasMetadata(tb, s, "usual", []byte("2"))
	b.Pass(tb, short/2)
	lacksMetadata(tb, s, "usual")
	hasMetadata(tb, s, "long", []byte("3"))
	b.Pass(tb, short)
	lacksMetadata(tb, s, "long")
}

func deletesMetadata(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	remove := func(want int, names ...string) {
		tb.Helper()
		if n, err := s.DeleteMetadata(tb.Context(), names...); err != nil || n != want {
			tb.Fatalf("deleted %d, %v; want %d", n, err, want)
		}
	}
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("m%d", i))
		setMetadata(tb, s, names[i], []byte("x"), 0)
	}
	remove(0)
	remove(1, "m0", "missing")
	remove(19, names...)
	for _, name := range names {
		lacksMetadata(tb, b.Open(tb, redisstate.Options{}), name)
	}
}

func refusesBadMetadata(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{MaxConfigBytes: 100})
	check := func(what string, err, want error) {
		tb.Helper()
		if !errors.Is(err, want) {
			tb.Fatalf("%s: got %v; want %v", what, err, want)
		}
		oneLine(tb, err)
	}
	setMetadata(tb, s, "kept", make([]byte, 100), 0)
	for _, name := range badIDs() {
		_, getErr := s.Metadata(tb.Context(), name)
		check("get", getErr, redisstate.ErrInvalidKey)
		check("set", s.SetMetadata(tb.Context(), name, []byte("x"), 0), redisstate.ErrInvalidKey)
		n, err := s.DeleteMetadata(tb.Context(), "kept", name)
		check("delete", err, redisstate.ErrInvalidKey)
		if n != 0 {
			tb.Fatalf("deleted %d beside a bad name", n)
		}
	}
	for _, ttl := range []time.Duration{-1, time.Microsecond, -time.Hour} {
		check("set", s.SetMetadata(tb.Context(), "a", []byte("x"), ttl), redisstate.ErrInvalidValue)
	}
	err := s.SetMetadata(tb.Context(), "a", make([]byte, 101), 0)
	check("set", err, redisstate.ErrTooLarge)
	if !strings.Contains(err.Error(), "MaxConfigBytes") {
		tb.Fatalf("the error does not name the option: %v", err)
	}
	lacksMetadata(tb, s, "a")
	hasMetadata(tb, s, "kept", make([]byte, 100))
}
