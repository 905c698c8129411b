package redisstate

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// checkCacheHistory lets writers and readers of several caches at the same
// states, as processes have them, and follows every read: it must give what the
// last change or invalidation that returned before it began left in the
// database, or something later. fault is called now and then.
func checkCacheHistory(t *testing.T, clients []redis.UniversalClient, fault func()) {
	ids := []string{"a", "b", "c"}
	r := newRows(ids...)
	var caches []*Cache[hotState]
	for _, client := range clients {
		caches = append(caches, newCache(t, client, r, quiet()), newCache(t, client, r, quiet()))
	}
	told := make(map[string]*atomic.Int64) // the latest version that a writer was told is in place
	for _, id := range ids {
		told[id] = new(atomic.Int64)
	}
	const writers, readers, changes = 4, 6, 150
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	var reads, hits atomic.Int64
	for n := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range changes {
				id := ids[random.IntN(len(ids))]
				version, err := writeOnce(t.Context(), caches[random.IntN(len(caches))], r, id, random.IntN(4))
				if err != nil {
					continue // not known to be in place
				}
				raise(told[id], int64(version))
				if fault != nil && i%50 == 49 {
					fault()
				}
			}
		})
	}
	for n := range readers {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(n)))
			for !done.Load() {
				id := ids[random.IntN(len(ids))]
				c, before, loads := caches[random.IntN(len(caches))], told[id].Load(), r.loads.Load()
				got, err := c.Get(t.Context(), id)
				if err != nil {
					t.Errorf("a read failed: %v", err)
					return
				}
				reads.Add(1)
				if r.loads.Load() == loads {
					hits.Add(1)
				}
				if int64(got.Version) < before {
					t.Errorf("%s: version %d was read after %d was in place", id, got.Version, before)
					return
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	if hits.Load() == 0 {
		t.Errorf("none of %d reads was answered by Redis: nothing was checked", reads.Load())
	}
	t.Logf("%d reads, %d of them surely hits, %d loads", reads.Load(), hits.Load(), r.loads.Load())
}

// raise makes n at least v.
func raise(n *atomic.Int64, v int64) {
	for {
		before := n.Load()
		if before >= v || n.CompareAndSwap(before, v) {
			return
		}
	}
}

// writeOnce changes a state in one of the ways that there are, and tells the
// version that it made.
func writeOnce(ctx context.Context, c *Cache[hotState], r *rows, id string, how int) (version int, err error) {
	if how == 0 {
		version = r.write(id).Version
		return version, c.Invalidate(ctx, id)
	}
	unknown := errors.New("connection lost in COMMIT")
	err = c.Change(ctx, []string{id}, func(context.Context) (map[string]hotState, error) {
		state := r.write(id)
		version = state.Version
		switch how {
		case 1:
			return nil, nil // taken out
		case 2:
			return nil, unknown
		}
		return map[string]hotState{id: state}, nil
	})
	if errors.Is(err, unknown) {
		err = nil // it is in the database, and nothing may be kept
	}
	return version, err
}

func TestCache_never_gives_what_was_there_before_a_change_returned(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	checkCacheHistory(t, []redis.UniversalClient{newClient(t, server), newClient(t, server)}, func() { server.FlushAll() })
}
