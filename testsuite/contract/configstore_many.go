package contract

import (
	"fmt"
	"testing"

	"github.com/compozy/temporal-redis/redisstate"
)

func readsMany(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	old := save(tb, s, "a", basic("a", 1))
	now := save(tb, s, "a", basic("a", 2))
	other := save(tb, s, "b", basic("b", 3))
	keys := []redisstate.Key{
		redisstate.ID("a"), old.Key(), now.Key(), other.Key(), redisstate.ID("missing"),
		{ID: "missing", Digest: old.Digest}, redisstate.ID("a"), old.Key(),
	}
	want := map[redisstate.Key]task{
		redisstate.ID("a"): basic("a", 2), old.Key(): basic("a", 1), now.Key(): basic("a", 2), other.Key(): basic("b", 3),
	}
	for _, reader := range []Store{s, b.Open(tb, redisstate.Options{}), b.Open(tb, redisstate.Options{NearCacheBytes: -1})} {
		for range 2 { // the second time some are near
			found, err := reader.GetMany(tb.Context(), keys...)
			if err != nil || len(found) != len(want) {
				tb.Fatalf("found %d, %v; want %d", len(found), err, len(want))
			}
			for key, v := range want {
				sameJSON(tb, found[key], v)
				if found[key].Ref.ID != key.ID {
					tb.Fatalf("%v came with the ref %v", key, found[key].Ref)
				}
			}
		}
	}
}

func readsNone(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	if found, err := s.GetMany(tb.Context()); err != nil || len(found) != 0 {
		tb.Fatalf("found %v, %v", found, err)
	}
	if found, err := s.GetMany(tb.Context(), redisstate.ID("a")); err != nil || len(found) != 0 {
		tb.Fatalf("found %v, %v", found, err)
	}
	if refs, err := s.Set(tb.Context()); err != nil || len(refs) != 0 {
		tb.Fatalf("saved %v, %v", refs, err)
	}
	if n, err := s.Delete(tb.Context()); err != nil || n != 0 {
		tb.Fatalf("deleted %d, %v", n, err)
	}
}

func savesMany(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	var entries []redisstate.Entry
	for i := range 40 {
		id := fmt.Sprintf("c%02d", i)
		entries = append(entries, redisstate.Entry{ID: id, Workflow: fmt.Sprintf("wf-%d", i%3), Value: basic(id, int64(i))})
	}
	refs, err := s.Set(tb.Context(), entries...)
	if err != nil || len(refs) != len(entries) {
		tb.Fatalf("saved %d, %v", len(refs), err)
	}
	other := b.Open(tb, redisstate.Options{})
	for i, e := range entries {
		if refs[i].ID != e.ID {
			tb.Fatalf("ref %d is of %s; want %s", i, refs[i].ID, e.ID)
		}
		if config := reads(tb, other, refs[i].Key(), e.Value); config.Workflow != e.Workflow {
			tb.Fatalf("%s is of workflow %q; want %q", e.ID, config.Workflow, e.Workflow)
		}
	}
}

func savesTwiceAtOnce(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	refs, err := s.Set(tb.Context(),
		redisstate.Entry{ID: "a", Value: basic("a", 1)},
		redisstate.Entry{ID: "a", Value: basic("a", 2)},
		redisstate.Entry{ID: "a", Value: basic("a", 3)})
	if err != nil {
		tb.Fatal(err)
	}
	other := b.Open(tb, redisstate.Options{})
	for i, ref := range refs {
		reads(tb, other, ref.Key(), basic("a", int64(i+1)))
	}
	reads(tb, other, redisstate.ID("a"), basic("a", 3))
}

func savesThousands(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	const n = 1200 // a batch has 1000 at most
	entries := make([]redisstate.Entry, n)
	ids := make([]string, n)
	for i := range entries {
		ids[i] = fmt.Sprintf("c%04d", i)
		entries[i] = redisstate.Entry{ID: ids[i], Workflow: "wf", Value: basic(ids[i], int64(i))}
	}
	refs, err := s.Set(tb.Context(), entries...)
	if err != nil {
		tb.Fatal(err)
	}
	keys := make([]redisstate.Key, n)
	for i, ref := range refs {
		keys[i] = ref.Key()
	}
	other := b.Open(tb, redisstate.Options{})
	found, err := other.GetMany(tb.Context(), keys...)
	if err != nil || len(found) != n {
		tb.Fatalf("found %d, %v", len(found), err)
	}
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), ids)
	same(tb, "everything", lists(tb, other, redisstate.Scope{}), ids)
	if gone, err := other.Delete(tb.Context(), keys[:n/2]...); err != nil || gone != n/2 {
		tb.Fatalf("deleted %d, %v", gone, err)
	}
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), ids[n/2:])
}
