package redisstate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Changes collects what a transaction of the host changes, while it runs, and
// tells the cache when it is committed. Of a transaction that is rolled back
// nothing was told: forget it. Cache.Changes makes it, one for a transaction. It
// is safe for concurrent use.
//
// What is rolled back to a savepoint was collected all the same: say Invalidate
// for what was put since then.
type Changes[T any] struct {
	cache *Cache[T]
	mu    sync.Mutex
	edits map[string]*edit[T] // nil: changed, and not known how
}

// Changes begins to collect.
func (c *Cache[T]) Changes() *Changes[T] {
	return &Changes[T]{cache: c, edits: make(map[string]*edit[T])}
}

// Invalidate says that the transaction changes states in ways that are not known:
// they are loaded when they are asked for. It wins over what was put before.
func (ch *Changes[T]) Invalidate(ids ...string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, id := range ids {
		ch.edits[id] = nil
	}
}

// Put says what the transaction leaves of a state. It must be all of it, as the
// transaction reads it after its last write, with a lock on the row or by that
// write: what others commit meanwhile must not be missing.
func (ch *Changes[T]) Put(id string, state T) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.edits[id] = &edit[T]{whole: &state}
}

// Commit goes around the commit of the transaction, as Cache.Change does and with
// its errors: commit must only commit, and all that is to be collected must be.
// Reads of the states go to the database from just before the commit until it is
// known that it happened. If nothing was collected, it is commit alone. To commit
// what several caches collected, call the Commit of one in that of the other. If
// the transaction's commit was not called, Commit may be called again; else it is
// empty afterwards.
func (ch *Changes[T]) Commit(ctx context.Context, commit func(ctx context.Context) error) error {
	ch.mu.Lock()
	edits := maps.Clone(ch.edits)
	ch.mu.Unlock()
	if len(edits) == 0 {
		return commit(ctx)
	}
	ids := slices.Collect(maps.Keys(edits))
	if err := ch.cache.check(opCacheChange, ids...); err != nil {
		return notCalledError{err}
	}
	return ch.cache.around(ctx, ids, func(ctx context.Context) (map[string]*edit[T], error) {
		again := false
		defer func() { // also when commit panics
			if !again {
				ch.mu.Lock()
				clear(ch.edits)
				ch.mu.Unlock()
			}
		}()
		err := commit(ctx)
		again = errors.Is(err, errNotCalled) // commit was the Commit of another cache
		return edits, err
	})
}
