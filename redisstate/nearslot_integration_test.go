//go:build integration

package redisstate

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
)

// A bell and what it rings for go to one node together, also while that is another
// one than the client thinks. If the bell came first, those who hear it would read
// what was there before, and answer it for half a minute.
func TestNearCacheByKey_hears_of_changes_while_a_slot_moves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shards := redistest.StartCluster(t)
	writer, reader := storeAt(t, Options{URL: shards.URL()}), storeAt(t, Options{URL: shards.URL(), NearCacheByKey: true})
	must(t, shards.Settle(ctx))
	hearsBells(t, reader)
	var reading sync.WaitGroup
	var done atomic.Bool
	for range 4 { // those who hear the bell
		reading.Go(func() {
			tick := time.NewTicker(time.Millisecond) // other tests want to run, too
			defer tick.Stop()
			for !done.Load() {
				_, _ = reader.Get(ctx, ID("a"))
				<-tick.C
			}
		})
	}
	defer reading.Wait()
	defer done.Store(true)
	// soon waits for less than what was overtaken would be answered for.
	soon := func(when, what string, is func() bool) {
		t.Helper()
		began := time.Now()
		until(t, what+" "+when, is)
		if took := time.Since(began); took > beatsFor+beatEvery {
			t.Fatalf("%s, it took %v until %s", when, took, what)
		}
	}
	version := 0
	reads := func() bool {
		c, err := reader.Get(ctx, ID("a"))
		got := valueOf(t, c, err)
		return err == nil && got == version
	}
	write := func(when string) {
		t.Helper()
		version++
		if _, err := writer.Set(ctx, Entry{ID: "a", Value: version}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		soon(when, "what was written is read", reads)
	}
	rounds := func(when string) {
		t.Helper()
		for range 10 {
			write(when)
			write(when)
			if n, err := writer.Delete(ctx, ID("a")); n != 1 || err != nil {
				t.Fatalf("%s, %d were deleted, %v", when, n, err)
			}
			soon(when, "what was deleted is not read", func() bool {
				_, err := reader.Get(ctx, ID("a"))
				return errors.Is(err, ErrNotFound)
			})
		}
		write(when)
	}
	rounds("before")
	slot, err := shards.Slot(ctx, writer.space.Config("a"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := shards.BeginMigration(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	rounds("while the slot is open")
	if _, err := m.Move(ctx, 100); err != nil {
		t.Fatal(err)
	}
	rounds("while its keys are on the other side")
	if err := m.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	rounds("when it has moved")
}
