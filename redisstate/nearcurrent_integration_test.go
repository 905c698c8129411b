//go:build integration

package redisstate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// hearsay follows what processes with Options.NearCacheByKey read while another
// writes.
type hearsay struct {
	ids    []string
	writer *Store
	mu     sync.Mutex
	acked  map[string][]time.Time // when the versions of an id, from 1, were in place
	oldest atomic.Int64           // how long ago the oldest version that was read had been replaced
}

// before tells which version of an id was in place at a time.
func (h *hearsay) before(id string, at time.Time) (version int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.acked[id] {
		if t.After(at) {
			break
		}
		version++
	}
	return version
}

// write makes the next version of an id. What fails is tried again until it is
// in place.
func (h *hearsay) write(ctx context.Context, id string) error {
	h.mu.Lock()
	next := len(h.acked[id]) + 1
	h.mu.Unlock()
	for {
		_, err := h.writer.Set(ctx, Entry{ID: id, Value: next})
		if err == nil {
			h.mu.Lock()
			h.acked[id] = append(h.acked[id], time.Now())
			h.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// read reads an id once and checks it: nothing that was replaced longer ago than
// a beat is worth, nor less than was read here before. Failures of Redis are no
// answers.
func (h *hearsay) read(ctx context.Context, s *Store, id string, seen map[string]int) error {
	began := time.Now()
	least := h.before(id, began.Add(-beatsFor))
	c, err := s.Get(ctx, ID(id))
	if err != nil {
		return nil //nolint:nilerr // Redis is away now and then
	}
	got, err := Decode[int](c)
	if err != nil {
		return err
	}
	if *got < least || *got < seen[id] {
		return fmt.Errorf("%s: version %d was read; %d was in place %v before, and %d was read here", id, *got, least, beatsFor, seen[id])
	}
	seen[id] = *got
	h.mu.Lock()
	if len(h.acked[id]) > *got {
		h.oldest.Store(max(h.oldest.Load(), int64(began.Sub(h.acked[id][*got]))))
	}
	h.mu.Unlock()
	return nil
}

// run writes for a while, with a fault in the middle that leaves nothing behind
// that was acknowledged.
func (h *hearsay) run(t *testing.T, readers []*Store, fault func()) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, id := range h.ids {
		if err := h.write(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range readers {
		hearsBells(t, s)
	}
	var reading sync.WaitGroup
	var done atomic.Bool
	var reads atomic.Int64
	for _, s := range readers {
		for range 2 {
			reading.Go(func() {
				seen := map[string]int{}
				tick := time.NewTicker(4 * time.Millisecond) // the others want to run, too
				defer tick.Stop()
				for i := 0; !done.Load(); i++ {
					<-tick.C
					if err := h.read(ctx, s, h.ids[i%len(h.ids)], seen); err != nil {
						t.Error(err)
						return
					}
					reads.Add(1)
				}
			})
		}
	}
	writes := func(d time.Duration) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
			if err := h.write(ctx, h.ids[rand.IntN(len(h.ids))]); err != nil {
				t.Error(err)
			}
		}
	}
	writes(beatEvery)
	if fault != nil {
		fault()
	}
	writes(beatsFor + beatEvery)
	for _, s := range readers {
		hearsBells(t, s)
	}
	writes(beatEvery)
	done.Store(true)
	reading.Wait()
	var near, bells float64
	for _, s := range readers {
		near += testutil.ToFloat64(s.near.hits)
		bells += testutil.ToFloat64(s.current.bells)
	}
	if near == 0 || bells == 0 {
		t.Errorf("of %d reads %v were answered from memory, and %v bells were heard: nothing was checked", reads.Load(), near, bells)
	}
	t.Logf("%d reads, %.0f of them from memory, %.0f bells; the oldest version read had been replaced %v before",
		reads.Load(), near, bells, time.Duration(h.oldest.Load()))
}

// storeAt makes a store on a connection of its own.
func storeAt(t *testing.T, o Options) *Store {
	t.Helper()
	o.Registerer, o.Logger = quiet().Registerer, quiet().Logger
	conn, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := NewStore(conn.Client(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// hearsayAt makes readers and a writer at an URL.
func hearsayAt(t *testing.T, url, readersURL string) (*hearsay, []*Store) {
	t.Helper()
	h := &hearsay{ids: []string{"a", "b", "c"}, acked: map[string][]time.Time{}, writer: storeAt(t, Options{URL: url})}
	var readers []*Store
	for range 2 {
		readers = append(readers, storeAt(t, Options{URL: readersURL, NearCacheByKey: true, ReadTimeout: time.Second}))
	}
	return h, readers
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestNearCacheByKey_is_never_older_than_promised(t *testing.T) {
	t.Parallel()
	t.Run("undisturbed", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		h, readers := hearsayAt(t, server.URL(), server.URL())
		h.run(t, readers, nil)
		flushes := testutil.ToFloat64(readers[0].current.flushed)
		if flushes > 3 { // at the start, and when the two channels are subscribed
			t.Errorf("everything was forgotten %v times", flushes)
		}
	})
	t.Run("connections killed", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		h, readers := hearsayAt(t, server.URL(), server.URL())
		control := server.ControlClient(t)
		h.run(t, readers, func() { must(t, control.Do(t.Context(), "client", "kill", "type", "pubsub").Err()) })
	})
	t.Run("connections that say nothing", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		proxy := faultproxy.Start(t, server.Addr())
		h, readers := hearsayAt(t, server.URL(), "redis://"+proxy.Addr())
		h.run(t, readers, func() { proxy.BlackHolePresent(faultproxy.ToClient) })
	})
	t.Run("server stopped for a time", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		h, readers := hearsayAt(t, server.URL(), server.URL())
		h.run(t, readers, func() {
			must(t, server.Pause())
			<-time.After(beatsFor / 2)
			must(t, server.Resume())
		})
	})
	t.Run("server restarted", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithPersistence())
		h, readers := hearsayAt(t, server.URL(), server.URL())
		h.run(t, readers, func() {
			server.Kill()
			must(t, server.Restart(t.Context()))
		})
	})
	t.Run("Sentinel, with a fail-over", func(t *testing.T) {
		t.Parallel()
		watched := redistest.StartSentinel(t)
		h, readers := hearsayAt(t, watched.URL(), watched.URL())
		h.run(t, readers, func() {
			must(t, watched.Settle(t.Context()))
			_, err := watched.Failover(t.Context())
			must(t, err)
		})
	})
	t.Run("Cluster, with a master that dies", func(t *testing.T) {
		t.Parallel()
		shards := redistest.StartCluster(t)
		h, readers := hearsayAt(t, shards.URL(), shards.URL())
		h.run(t, readers, func() {
			must(t, shards.Settle(t.Context()))
			slot, err := shards.Slot(t.Context(), h.writer.space.Config("a"))
			must(t, err)
			_, _, err = shards.KillMaster(t.Context(), slot)
			must(t, err)
		})
	})
}
