package redisstate

import (
	"fmt"
	"testing"
)

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

// What Set adds for the near cache, with a cache that is full.
func BenchmarkNearAdd(b *testing.B) {
	o := quiet()
	o.NearCacheBytes = 1 << 20
	n := newStore(b, newClient(b, newServer(b)), o).near
	ids := make([]string, 1<<14)
	for i := range ids {
		ids[i] = fmt.Sprintf("task-%05d", i)
	}
	c := newContent(sum{}, make([]byte, 2048), nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.add(ids[i%len(ids)], c, "wf", nil)
	}
}
