package redisstate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// parts are a database of states with parts: the head counts the commits, each
// part those that changed it.
type parts = Aggregate[int, int]

// history follows every read of cached states.
type history struct {
	t      *testing.T
	ids    []string
	mu     sync.Mutex
	rows   map[string]parts         // what is committed
	told   map[string]*atomic.Int64 // how many commits of it are known to be in place
	caches []*Cache[parts]
	// inParts: states are put together with what was there. So nobody writes
	// without a change: that is not known to others before it is told.
	inParts bool
	loads   atomic.Int64
	late    sync.WaitGroup // commits whose caller was told of an error
}

// historyOf makes caches on clients, two each, as processes have them: of states
// in one string or in parts.
func historyOf(t *testing.T, inParts bool, clients []redis.UniversalClient) *history {
	h := &history{t: t, ids: []string{"a", "b", "c"}, rows: map[string]parts{}, told: map[string]*atomic.Int64{}, inParts: inParts}
	for _, id := range h.ids {
		h.rows[id], h.told[id] = parts{}, new(atomic.Int64)
	}
	newOf, kind := NewCache[parts], "whole"
	if inParts {
		newOf, kind = NewAggregateCache[int, int], "parts"
	}
	for _, client := range clients {
		for range 2 {
			c, err := newOf(client, CacheOptions[parts]{Kind: kind, Load: h.load}, quiet())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			c.away.wait = DefaultCacheTTL
			h.caches = append(h.caches, c)
		}
	}
	return h
}

func (h *history) load(_ context.Context, id string) (parts, error) {
	h.loads.Add(1)
	state := h.row(id)
	for range rand.IntN(50) { // others come between the read and its use
		runtime.Gosched()
	}
	return state, nil
}

func (h *history) row(id string) parts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rows[id]
}

// commit changes a part of a state, and gives what it leaves.
func (h *history) commit(id, part string) parts {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := parts{Head: h.rows[id].Head + 1, Parts: map[string]int{}}
	maps.Copy(state.Parts, h.rows[id].Parts)
	state.Parts[part]++
	h.rows[id] = state
	return state
}

// read gives what a cache has, and checks it: what was in place before the read
// began, or something later, and nothing that never was.
func (h *history) read(ctx context.Context, c *Cache[parts], id string) error {
	before := h.told[id].Load()
	got, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	sum := 0
	for _, n := range got.Parts {
		sum += n
	}
	switch {
	case int64(got.Head) < before:
		return fmt.Errorf("%s: commit %d was read after %d was in place", id, got.Head, before)
	case sum != got.Head:
		return fmt.Errorf("%s: what was read never was: %+v", id, got)
	}
	return nil
}

// The ways to change a state. Those at the end keep it out of Redis until their
// marks expire.
const (
	byInvalidate = iota
	takenOut
	rolledBack
	writtenThrough
	patched
	patchedAgain
	everyWay
	committedLate = everyWay
)

var errLost = errors.New("connection lost in COMMIT")

// change changes a state in a way.
func (h *history) change(ctx context.Context, c *Cache[parts], id, part string, how int) {
	var state parts
	if how == byInvalidate && h.inParts {
		how = takenOut
	}
	if how == byInvalidate {
		state = h.commit(id, part)
		if c.Invalidate(ctx, id) == nil {
			raise(h.told[id], int64(state.Head))
		}
		return
	}
	ch := c.Changes()
	ch.Invalidate(id) // till it is known
	err := ch.cache.around(ctx, []string{id}, func(context.Context) (map[string]*edit[parts], error) {
		switch how {
		case rolledBack:
			return nil, fmt.Errorf("conflict: %w", ErrRolledBack)
		case committedLate:
			h.late.Go(func() {
				for range 1000 {
					runtime.Gosched()
				}
				raise(h.told[id], int64(h.commit(id, part).Head))
			})
			return nil, errLost
		}
		state = h.commit(id, part)
		ch = c.Changes()
		switch how {
		case takenOut:
			ch.Invalidate(id)
		case writtenThrough:
			ch.Put(id, state)
		default:
			PutHead(ch, id, state.Head)
			PutPart(ch, id, part, state.Parts[part])
		}
		return ch.edits, nil
	})
	if err == nil {
		raise(h.told[id], int64(state.Head))
	}
}

// run lets writers and readers at the states. Faults come now and then. Those that
// lose what Redis acknowledged (a flush, an eviction) may take a change off its
// list: another one then has no way to know of it, so parts are not put together
// with what was there.
func (h *history) run(fault func(), loses bool) {
	const writers, readers, changes = 4, 6, 200
	ctx := h.t.Context()
	var writing, reading sync.WaitGroup
	var done atomic.Bool
	var reads, hits atomic.Int64
	for n := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range changes {
				how := random.IntN(everyWay)
				if loses {
					how = min(how, writtenThrough)
				} else if i > changes*9/10 && random.IntN(4) == 0 {
					how = committedLate
				}
				h.change(ctx, h.caches[random.IntN(len(h.caches))], h.ids[random.IntN(len(h.ids))], strconv.Itoa(random.IntN(3)), how)
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
				if err := h.read(ctx, h.caches[random.IntN(len(h.caches))], h.ids[random.IntN(len(h.ids))]); err != nil {
					h.t.Error(err)
					return
				}
				reads.Add(1)
			}
		})
	}
	writing.Wait()
	h.late.Wait()
	done.Store(true)
	reading.Wait()
	for _, id := range h.ids {
		if err := h.read(ctx, h.caches[0], id); err != nil {
			h.t.Error(err)
		}
	}
	var writes float64
	for _, c := range h.caches {
		hits.Add(int64(testutil.ToFloat64(c.hits)))
		writes += testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateWritten))
	}
	if hits.Load() == 0 || writes == 0 {
		h.t.Errorf("of %d reads %d were answered by Redis, and %v changes were written through: nothing was checked", reads.Load(), hits.Load(), writes)
	}
	h.t.Logf("%d reads, %d of them hits, %d loads, %v changes written through", reads.Load(), hits.Load(), h.loads.Load(), writes)
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

// eachShape runs a test for states in one string and for states in parts.
func eachShape(t *testing.T, test func(t *testing.T, inParts bool)) {
	for name, inParts := range map[string]bool{"whole": false, "in parts": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, inParts)
		})
	}
}

// miniredis does not notice that a watched key was flushed: that is for a real
// server.
func TestCache_never_gives_what_was_there_before_a_change_returned(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, inParts bool) {
		server := newServer(t)
		historyOf(t, inParts, []redis.UniversalClient{newClient(t, server), newClient(t, server)}).run(nil, false)
	})
}
