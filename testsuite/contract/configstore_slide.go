package contract

import (
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// await calls done until it reports true. It is for what a store does in the
// background and tells nobody.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			tb.Fatalf("waited in vain: %s", what)
		case <-tb.Context().Done():
			tb.Fatalf("the test ended: %s", what)
		}
	}
}

// extendedTo waits until a config has more than least left.
func extendedTo(tb testing.TB, s Store, key redisstate.Key, least time.Duration) {
	tb.Helper()
	await(tb, "a read extends the life", func() bool {
		left, err := s.TTL(tb.Context(), key)
		if err != nil {
			tb.Fatalf("it is gone: %v", err)
		}
		return left > least
	})
}

func readExtends(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	old := save(tb, s, "a", 1)
	save(tb, s, "a", 2)
	many := save(tb, s, "many", 3)
	save(tb, s, "unread", 4)
	saveEntry(tb, s, redisstate.Entry{ID: "own", Workflow: "wf", Value: 5, TTL: 2 * short})
	b.Pass(tb, short*3/4)
	// Each by its own time to live, not by that of the store that reads.
	reader := b.Open(tb, redisstate.Options{TTL: 8 * short, NearCacheBytes: -1})
	reads(tb, reader, redisstate.ID("a"), 2)
	reads(tb, reader, old.Key(), 1)
	if _, err := reader.GetMany(tb.Context(), many.Key(), redisstate.ID("own")); err != nil {
		tb.Fatal(err)
	}
	for _, key := range []redisstate.Key{redisstate.ID("a"), old.Key(), redisstate.ID("many"), redisstate.ID("own")} {
		extendedTo(tb, s, key, short/2)
	}
	extendedTo(tb, s, redisstate.ID("own"), 3*short/2)
	lives(tb, s, redisstate.ID("a"), short)
	b.Pass(tb, short/2)
	fresh := b.Open(tb, redisstate.Options{FixedTTL: true})
	reads(tb, fresh, redisstate.ID("a"), 2)
	reads(tb, fresh, old.Key(), 1)
	same(tb, "of the workflow", lists(tb, fresh, redisstate.Scope{Workflow: "wf"}), []string{"a", "many", "own"})
}

// What a store answers from its memory is in use as well. It extends that only
// when a quarter of the time to live has passed by its own clock, which Pass
// does not move: hence a time to live that the test can wait for.
func nearReadExtends(tb testing.TB, b ConfigStoreBackend) {
	const ttl = 6 * time.Second
	s := b.Open(tb, redisstate.Options{TTL: ttl})
	old := save(tb, s, "a", 1)
	now := save(tb, s, "a", 2)
	observer := b.Open(tb, redisstate.Options{FixedTTL: true})
	b.Pass(tb, ttl/2)
	await(tb, "reads from memory extend the life", func() bool {
		reads(tb, s, now.Key(), 2)
		reads(tb, s, old.Key(), 1)
		a, errA := observer.TTL(tb.Context(), now.Key())
		b, errB := observer.TTL(tb.Context(), old.Key())
		if errA != nil || errB != nil {
			tb.Fatalf("gone while it is read: %v, %v", errA, errB)
		}
		return min(a, b) > ttl/2
	})
}

func readExtendsMetadata(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: 8 * short, FixedTTL: true})
	setMetadata(tb, s, "m", []byte("1"), short)
	b.Pass(tb, short*3/4)
	hasMetadata(tb, b.Open(tb, redisstate.Options{}), "m", []byte("1"))
	await(tb, "a read extends the life", func() bool { return b.MetadataLife(tb, "m") > short/2 })
	b.Pass(tb, short/2)
	hasMetadata(tb, s, "m", []byte("1"))
	if left := b.MetadataLife(tb, "m"); left > short/2 {
		tb.Fatalf("metadata stays for %v though its time to live is fixed", left)
	}
}

func readKeepsFixedLife(tb testing.TB, b ConfigStoreBackend) {
	s := b.Open(tb, redisstate.Options{TTL: short, FixedTTL: true})
	ref := save(tb, s, "a", 1)
	sliding := save(tb, s, "sliding", 1)
	b.Pass(tb, short*3/4)
	reader := b.Open(tb, redisstate.Options{FixedTTL: true})
	reads(tb, reader, ref.Key(), 1)
	// A store that extends did so meanwhile.
	reads(tb, b.Open(tb, redisstate.Options{}), sliding.Key(), 1)
	extendedTo(tb, s, sliding.Key(), short/2)
	lives(tb, s, ref.Key(), short/4)
}
