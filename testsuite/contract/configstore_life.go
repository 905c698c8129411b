package contract

import (
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// short is a time to live that the cases about expiry let pass.
const short = time.Hour

func expires(tb testing.TB, b ConfigStoreBackend) {
	ref := save(tb, b.Open(tb, redisstate.Options{TTL: short}), "a", basic("a", 1))
	b.Pass(tb, short-time.Minute)
	reads(tb, b.Open(tb, redisstate.Options{FixedTTL: true}), ref.Key(), basic("a", 1)) // else that extends it, a moment later
	b.Pass(tb, 2*time.Minute)
	other := b.Open(tb, redisstate.Options{})
	refuses(tb, other, ref.Key(), redisstate.ErrNotFound)
	refuses(tb, other, redisstate.ID("a"), redisstate.ErrNotFound)
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), []string{})
	// Nothing may outlive its time to live, or Redis fills up.
	b.Pass(tb, time.Minute)
}

func ownTTL(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	saveEntry(tb, s, redisstate.Entry{ID: "brief", Workflow: "wf", Value: 1, TTL: short / 2})
	saveEntry(tb, s, redisstate.Entry{ID: "usual", Workflow: "wf", Value: 2})
	saveEntry(tb, s, redisstate.Entry{ID: "long", Workflow: "wf", Value: 3, TTL: 2 * short})
	alive := func(want ...string) {
		tb.Helper()
		same(tb, "of the workflow", lists(tb, b.Open(tb, redisstate.Options{}), redisstate.Scope{Workflow: "wf"}), want)
	}
	alive("brief", "long", "usual")
	b.Pass(tb, short*3/4)
	alive("long", "usual")
	b.Pass(tb, short/2)
	alive("long")
	reads(tb, s, redisstate.ID("long"), 3)
	b.Pass(tb, short)
	alive([]string{}...)
}

func extendsLife(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short})
	ref := save(tb, s, "a", basic("a", 1))
	for range 4 {
		b.Pass(tb, short*3/4)
		reads(tb, b.Open(tb, redisstate.Options{}), ref.Key(), basic("a", 1))
		if again := save(tb, s, "a", basic("a", 1)); again != ref {
			tb.Fatalf("the ref changed from %v to %v", ref, again)
		}
	}
	b.Pass(tb, short*3/4)
	other := b.Open(tb, redisstate.Options{})
	reads(tb, other, ref.Key(), basic("a", 1))
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "wf"}), []string{"a"})
}

func keepsLife(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "wf", Value: 1, TTL: 4 * short})
	saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "wf", Value: 1, TTL: short})
	saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "other", Value: 1, TTL: short})
	b.Pass(tb, 2*short)
	other := b.Open(tb, redisstate.Options{})
	reads(tb, other, ref.Key(), 1)
	same(tb, "of the workflow", lists(tb, other, redisstate.Scope{Workflow: "other"}), []string{"a"})
}

func keepsOverwrittenLife(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	long := saveEntry(tb, s, redisstate.Entry{ID: "a", Value: 1, TTL: 4 * short})
	brief := saveEntry(tb, s, redisstate.Entry{ID: "a", Value: 2, TTL: short})
	saveEntry(tb, s, redisstate.Entry{ID: "a", Value: 3, TTL: short})
	b.Pass(tb, 2*short)
	other := b.Open(tb, redisstate.Options{FixedTTL: true}) // else it extends what it reads, a moment later
	reads(tb, other, long.Key(), 1)
	refuses(tb, other, brief.Key(), redisstate.ErrNotFound)
	refuses(tb, other, redisstate.ID("a"), redisstate.ErrNotFound)
	b.Pass(tb, 3*short)
	refuses(tb, b.Open(tb, redisstate.Options{}), long.Key(), redisstate.ErrNotFound)

	// What replaces it lends it no life.
	brief = saveEntry(tb, s, redisstate.Entry{ID: "lent", Value: 1, TTL: short})
	saveEntry(tb, s, redisstate.Entry{ID: "lent", Value: 2, TTL: 4 * short})
	lives(tb, s, brief.Key(), short)

	// What is overwritten again stays for the longer of its lives.
	for _, ttl := range []time.Duration{short, 4 * short, short} {
		again := saveEntry(tb, s, redisstate.Entry{ID: "b", Value: 1, TTL: ttl})
		saveEntry(tb, s, redisstate.Entry{ID: "b", Value: 2, TTL: ttl})
		if ttl == 4*short {
			long = again
		}
	}
	b.Pass(tb, 2*short)
	reads(tb, b.Open(tb, redisstate.Options{}), long.Key(), 1)
}

func deletesCurrent(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	old := save(tb, s, "a", basic("a", 1))
	now := save(tb, s, "a", basic("a", 2))
	save(tb, s, "b", basic("b", 1))
	n, err := s.Delete(tb.Context(), redisstate.ID("a"), redisstate.ID("b"), redisstate.ID("missing"))
	if err != nil || n != 2 {
		tb.Fatalf("deleted %d, %v; want 2", n, err)
	}
	for _, reader := range []Store{s, b.Open(tb, redisstate.Options{})} {
		refuses(tb, reader, redisstate.ID("a"), redisstate.ErrNotFound)
		refuses(tb, reader, now.Key(), redisstate.ErrNotFound)
		refuses(tb, reader, redisstate.ID("b"), redisstate.ErrNotFound)
		reads(tb, reader, old.Key(), basic("a", 1))
		same(tb, "of the workflow", lists(tb, reader, redisstate.Scope{Workflow: "wf"}), []string{})
	}
	if n, err := s.Delete(tb.Context(), redisstate.ID("a")); err != nil || n != 0 {
		tb.Fatalf("deleted %d again, %v", n, err)
	}
	again := save(tb, s, "a", basic("a", 2))
	reads(tb, b.Open(tb, redisstate.Options{}), again.Key(), basic("a", 2))
}

func deletesPinned(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	remove := func(want int, keys ...redisstate.Key) {
		tb.Helper()
		if n, err := s.Delete(tb.Context(), keys...); err != nil || n != want {
			tb.Fatalf("deleted %d, %v; want %d", n, err, want)
		}
	}
	old := save(tb, s, "a", basic("a", 1))
	now := save(tb, s, "a", basic("a", 2))
	remove(1, old.Key())
	fresh := func() Store { return b.Open(tb, redisstate.Options{}) }
	refuses(tb, fresh(), old.Key(), redisstate.ErrNotFound)
	refuses(tb, s, old.Key(), redisstate.ErrNotFound)
	reads(tb, fresh(), redisstate.ID("a"), basic("a", 2))
	remove(0, old.Key())
	remove(1, now.Key())
	refuses(tb, fresh(), redisstate.ID("a"), redisstate.ErrNotFound)
	refuses(tb, fresh(), now.Key(), redisstate.ErrNotFound)

	// The same content may be both current and put aside.
	save(tb, s, "b", basic("b", 1))
	save(tb, s, "b", basic("b", 2))
	both := save(tb, s, "b", basic("b", 1))
	remove(1, both.Key())
	refuses(tb, fresh(), both.Key(), redisstate.ErrNotFound)
}

func listsWorkflow(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	for _, e := range []redisstate.Entry{
		{ID: "a", Workflow: "one", Value: 1}, {ID: "b", Workflow: "one", Value: 2},
		{ID: "c", Workflow: "two", Value: 3}, {ID: "d", Value: 4},
	} {
		saveEntry(tb, s, e)
	}
	saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "one", Value: 5}) // overwritten, once in the list
	other := b.Open(tb, redisstate.Options{})
	same(tb, "one", lists(tb, other, redisstate.Scope{Workflow: "one"}), []string{"a", "b"})
	same(tb, "two", lists(tb, other, redisstate.Scope{Workflow: "two"}), []string{"c"})
	same(tb, "none", lists(tb, other, redisstate.Scope{Workflow: "none"}), []string{})
	same(tb, "one, prefix", lists(tb, other, redisstate.Scope{Workflow: "one", Prefix: "b"}), []string{"b"})
}

func movesWorkflow(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	move := func(workflow string, v any) {
		tb.Helper()
		saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: workflow, Value: v})
	}
	move("one", 1)
	move("two", 1) // same content
	same(tb, "one", lists(tb, s, redisstate.Scope{Workflow: "one"}), []string{})
	same(tb, "two", lists(tb, s, redisstate.Scope{Workflow: "two"}), []string{"a"})
	move("three", 2) // other content
	same(tb, "two", lists(tb, s, redisstate.Scope{Workflow: "two"}), []string{})
	same(tb, "three", lists(tb, s, redisstate.Scope{Workflow: "three"}), []string{"a"})
	if config := reads(tb, b.Open(tb, redisstate.Options{}), redisstate.ID("a"), 2); config.Workflow != "three" {
		tb.Fatalf("the config is of workflow %q; want three", config.Workflow)
	}
}

func listsLiving(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	saveEntry(tb, s, redisstate.Entry{ID: "expires", Workflow: "wf", Value: 1, TTL: short})
	for _, id := range []string{"stays", "deleted", "back"} {
		save(tb, s, id, basic(id, 1))
	}
	b.Pass(tb, 2*short)
	if _, err := s.Delete(tb.Context(), redisstate.ID("deleted"), redisstate.ID("back")); err != nil {
		tb.Fatal(err)
	}
	for range 2 { // the first listing prunes
		same(tb, "of the workflow", lists(tb, s, redisstate.Scope{Workflow: "wf"}), []string{"stays"})
	}
	save(tb, s, "back", basic("back", 1))
	same(tb, "of the workflow", lists(tb, s, redisstate.Scope{Workflow: "wf"}), []string{"back", "stays"})
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{"back", "stays"})
}

func listsPrefix(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	for _, id := range []string{"build:1", "build:2", "build*", "builder", "test", "b?", "[b]"} {
		save(tb, s, id, basic(id, 1))
	}
	for prefix, want := range map[string][]string{
		"build:": {"build:1", "build:2"},
		"build":  {"build*", "build:1", "build:2", "builder"},
		"build*": {"build*"},
		"b?":     {"b?"},
		"[b]":    {"[b]"},
		"none":   {},
	} {
		same(tb, prefix, lists(tb, s, redisstate.Scope{Prefix: prefix}), want)
	}
}

// Content that was put aside, indexes and what else there is are not listed.
func listsEverything(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{})
	for i := range 3 {
		saveEntry(tb, s, redisstate.Entry{ID: "a", Workflow: "one", Value: i})
		saveEntry(tb, s, redisstate.Entry{ID: "b", Workflow: "two", Value: i})
		saveEntry(tb, s, redisstate.Entry{ID: "c", Value: i})
	}
	same(tb, "everything", lists(tb, s, redisstate.Scope{}), []string{"a", "b", "c"})
}

func forgetsAfterFlush(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{})
	ref := save(tb, s, "a", basic("a", 1))
	b.Flush(tb)
	other := b.Open(tb, redisstate.Options{})
	refuses(tb, s, redisstate.ID("a"), redisstate.ErrNotFound)
	refuses(tb, other, ref.Key(), redisstate.ErrNotFound)
	same(tb, "everything", lists(tb, other, redisstate.Scope{}), []string{})
	if again := save(tb, s, "a", basic("a", 1)); again != ref {
		tb.Fatalf("the ref changed from %v to %v", ref, again)
	}
	reads(tb, other, ref.Key(), basic("a", 1))
}
