package contract

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// within bounds how long a case may have taken for what lives by real time.
const within = time.Minute

// lives fails the test unless a config has about want left.
func lives(tb testing.TB, s Store, key redisstate.Key, want time.Duration) {
	tb.Helper()
	if got, err := s.TTL(tb.Context(), key); err != nil || got > want || got < want-within {
		tb.Fatalf("%v stays for %v, %v; want %v", key.ID, got, err, want)
	}
}

func extends(tb testing.TB, s Store, want int, ttl time.Duration, keys ...redisstate.Key) {
	tb.Helper()
	if n, err := s.Extend(tb.Context(), ttl, keys...); err != nil || n != want {
		tb.Fatalf("extended %d, %v; want %d", n, err, want)
	}
}

func counted(tb testing.TB, s Store, scope redisstate.Scope, want int) {
	tb.Helper()
	if n, err := s.Count(tb.Context(), scope); err != nil || n != want {
		tb.Fatalf("%+v counts %d, %v; want %d", scope, n, err, want)
	}
}

func deletesWorkflow(tb testing.TB, s Store, workflow string, want int) {
	tb.Helper()
	if n, err := s.DeleteWorkflow(tb.Context(), workflow); err != nil || n != want {
		tb.Fatalf("deleted %d of %s, %v; want %d", n, workflow, err, want)
	}
}

func tellsLife(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: 4 * short})
	old := saveEntry(tb, s, redisstate.Entry{ID: "a", Value: 1, TTL: 2 * short})
	now := saveEntry(tb, s, redisstate.Entry{ID: "a", Value: 2, TTL: short})
	save(tb, s, "b", 3)
	b.Pass(tb, short/2)
	for _, reader := range []Store{s, b.Open(tb, redisstate.Options{})} {
		lives(tb, reader, redisstate.ID("a"), short/2)
		lives(tb, reader, now.Key(), short/2)
		lives(tb, reader, old.Key(), short*3/2)
		lives(tb, reader, redisstate.ID("b"), 4*short-short/2)
	}
	b.Pass(tb, short)
	for _, key := range []redisstate.Key{redisstate.ID("a"), now.Key(), redisstate.ID("none"), {ID: "b", Digest: old.Digest}} {
		if left, err := s.TTL(tb.Context(), key); !errors.Is(err, redisstate.ErrNotFound) {
			tb.Fatalf("what is gone stays for %v, %v", left, err)
		}
	}
	lives(tb, s, old.Key(), short/2)
}

func extendsOnly(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: 2 * short, FixedTTL: true})
	old := save(tb, s, "a", 1)
	now := save(tb, s, "a", 2)
	save(tb, s, "b", 3)
	extends(tb, s, 0, short)
	extends(tb, s, 2, short, old.Key(), redisstate.ID("b"), redisstate.ID("b"), redisstate.ID("none"))
	lives(tb, s, old.Key(), 2*short) // never shorter
	lives(tb, s, redisstate.ID("b"), 2*short)
	extends(tb, s, 2, 4*short, old.Key(), redisstate.ID("b"))
	lives(tb, s, old.Key(), 4*short)
	lives(tb, s, redisstate.ID("b"), 4*short)
	lives(tb, s, now.Key(), 2*short)
	b.Pass(tb, short)
	extends(tb, s, 1, 0, now.Key()) // as it was saved
	lives(tb, s, now.Key(), 2*short)
	b.Pass(tb, 2*short)
	other := b.Open(tb, redisstate.Options{FixedTTL: true})
	reads(tb, other, old.Key(), 1)
	refuses(tb, other, redisstate.ID("a"), redisstate.ErrNotFound)
	extends(tb, s, 0, short, now.Key(), redisstate.ID("a"))
	// What is still there is still listed.
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), []string{"b"})
	b.Pass(tb, 2*short)
	refuses(tb, b.Open(tb, redisstate.Options{}), old.Key(), redisstate.ErrNotFound)
}

func refusesBadExtensions(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short})
	save(tb, s, "kept", 1)
	check := func(n int, err, want error) {
		tb.Helper()
		if !errors.Is(err, want) || n != 0 {
			tb.Fatalf("got %d, %v; want %v", n, err, want)
		}
		oneLine(tb, err)
	}
	for _, id := range badIDs() {
		n, err := s.Extend(tb.Context(), 2*short, redisstate.ID("kept"), redisstate.ID(id))
		check(n, err, redisstate.ErrInvalidKey)
		n, err = s.ExtendWorkflow(tb.Context(), id, 2*short)
		check(n, err, redisstate.ErrInvalidKey)
		n, err = s.DeleteWorkflow(tb.Context(), id)
		check(n, err, redisstate.ErrInvalidKey)
		_, err = s.TTL(tb.Context(), redisstate.ID(id))
		check(0, err, redisstate.ErrInvalidKey)
	}
	for _, ttl := range []time.Duration{-1, time.Microsecond, -time.Hour} {
		n, err := s.Extend(tb.Context(), ttl, redisstate.ID("kept"))
		check(n, err, redisstate.ErrInvalidValue)
		n, err = s.ExtendWorkflow(tb.Context(), "wf", ttl)
		check(n, err, redisstate.ErrInvalidValue)
	}
	lives(tb, s, redisstate.ID("kept"), short)
}

func extendsWorkflow(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	var ids []string
	var refs []redisstate.Ref
	for i := range 30 {
		ids = append(ids, fmt.Sprintf("c%02d", i))
		refs = append(refs, save(tb, s, ids[i], 1), save(tb, s, ids[i], 2))
	}
	saveEntry(tb, s, redisstate.Entry{ID: "another's", Workflow: "other", Value: 1})
	save(tb, s, "moved", 1)
	saveEntry(tb, s, redisstate.Entry{ID: "moved", Workflow: "other", Value: 1})
	b.Pass(tb, short/2)
	if n, err := s.ExtendWorkflow(tb.Context(), "wf", 3*short); err != nil || n != len(ids) {
		tb.Fatalf("extended %d, %v; want %d", n, err, len(ids))
	}
	if n, err := s.ExtendWorkflow(tb.Context(), "none", short); err != nil || n != 0 {
		tb.Fatalf("extended %d of no workflow, %v", n, err)
	}
	lives(tb, s, redisstate.ID("another's"), short/2)
	lives(tb, s, redisstate.ID("moved"), short/2)
	b.Pass(tb, 2*short)
	other := b.Open(tb, redisstate.Options{FixedTTL: true})
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), ids)
	for i, ref := range refs {
		reads(tb, other, ref.Key(), 1+i%2)
	}
	// 0 is each config's own time to live.
	b.Pass(tb, short/2)
	if n, err := other.ExtendWorkflow(tb.Context(), "wf", 0); err != nil || n != len(ids) {
		tb.Fatalf("extended %d, %v; want %d", n, err, len(ids))
	}
	lives(tb, other, refs[0].Key(), short)
	lives(tb, other, refs[1].Key(), short)
}

// Saving again must not take back what Extend gave.
func keepsExtended(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	ref := save(tb, s, "a", 1)
	extends(tb, s, 1, 8*short, ref.Key())
	save(tb, s, "a", 1)
	lives(tb, s, ref.Key(), 8*short)
	saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "other", Value: 1, TTL: 2 * short})
	lives(tb, s, ref.Key(), 8*short)
	b.Pass(tb, 4*short)
	same(tb, "of the other workflow", lists(tb, s, redisstate.Scope{Workflow: "other"}), []string{"a"})
	saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "other", Value: 2, TTL: short})
	lives(tb, s, redisstate.ID("a"), short)
	lives(tb, s, ref.Key(), 4*short) // put aside
	b.Pass(tb, 3*short)
	reads(tb, b.Open(tb, redisstate.Options{}), ref.Key(), 1)
}

func deletesAllOfWorkflow(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	var keys []redisstate.Key
	for i := range 30 {
		id := fmt.Sprintf("c%02d", i)
		keys = append(keys, save(tb, s, id, 1).Key(), save(tb, s, id, 2).Key(), redisstate.ID(id))
	}
	stays := []redisstate.Key{
		saveEntry(tb, s, redisstate.Entry{ID: "another's", Workflow: "other", Value: 1}).Key(),
		saveEntry(tb, s, redisstate.Entry{ID: "another's", Workflow: "other", Value: 1}).Key(),
		saveEntry(tb, s, redisstate.Entry{ID: "nobody's", Value: 1}).Key(),
	}
	save(tb, s, "moved", 1)
	stays = append(stays, saveEntry(tb, s, redisstate.Entry{ID: "moved", Workflow: "other", Value: 1}).Key())
	setMetadata(tb, s, "wf", []byte("stays"), 0)
	deletesWorkflow(tb, s, "none", 0)
	deletesWorkflow(tb, b.Open(tb, redisstate.Options{}), "wf", 30)
	other := b.Open(tb, redisstate.Options{})
	for _, key := range keys {
		refuses(tb, other, key, redisstate.ErrNotFound)
	}
	for _, key := range stays {
		reads(tb, other, key, 1)
	}
	hasMetadata(tb, other, "wf", []byte("stays"))
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), []string{})
	same(tb, "of the other", lists(tb, other, redisstate.Scope{Workflow: "other"}), []string{"another's", "moved"})
	same(tb, "everything", lists(tb, other, redisstate.Scope{}), []string{"another's", "moved", "nobody's"})
	deletesWorkflow(tb, s, "wf", 0)
	// The store that saved them does not keep them either.
	refuses(tb, s, redisstate.ID("c00"), redisstate.ErrNotFound)
	save(tb, s, "c00", 1)
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), []string{"c00"})
}

func countsConfigs(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	counted(tb, s, redisstate.Scope{}, 0)
	for i := range 12 {
		workflow := []string{"one", "two", ""}[i%3]
		saveEntry(tb, s, redisstate.Entry{ID: fmt.Sprintf("c%02d", i), Workflow: workflow, Value: 1})
		saveEntry(tb, s, redisstate.Entry{ID: fmt.Sprintf("c%02d", i), Workflow: workflow, Value: 2})
	}
	setMetadata(tb, s, "m", nil, 0)
	counted(tb, s, redisstate.Scope{}, 12)
	counted(tb, s, redisstate.Scope{Workflow: "one"}, 4)
	counted(tb, s, redisstate.Scope{Workflow: "none"}, 0)
	counted(tb, s, redisstate.Scope{Prefix: "c0"}, 10)
	counted(tb, s, redisstate.Scope{Workflow: "two", Prefix: "c1"}, 1)
	if _, err := s.Delete(tb.Context(), redisstate.ID("c00"), redisstate.ID("c02")); err != nil {
		tb.Fatal(err)
	}
	counted(tb, s, redisstate.Scope{}, 10)
	counted(tb, s, redisstate.Scope{Workflow: "one"}, 3)
	if _, err := s.Count(tb.Context(), redisstate.Scope{Workflow: "\xff"}); !errors.Is(err, redisstate.ErrInvalidKey) {
		tb.Fatalf("got %v; want ErrInvalidKey", err)
	}
}
