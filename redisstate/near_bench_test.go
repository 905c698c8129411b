package redisstate

import "testing"

// The hot path of an activity: a typed read by ref of what was read before.
func BenchmarkNearHit(b *testing.B) {
	store := newStore(b, newClient(b, newServer(b)), quiet())
	typed := For[doc](store)
	ref, err := typed.Set(b.Context(), "wf", "a", &doc{"a", 1})
	if err != nil {
		b.Fatal(err)
	}
	key, ctx := ref.Key(), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := typed.Get(ctx, key); err != nil {
			b.Fatal(err)
		}
	}
}
