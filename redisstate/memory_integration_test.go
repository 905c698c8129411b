//go:build integration

package redisstate_test

import (
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// What gives memory back, or keeps what is there, works without memory too.
func TestStore_deletes_and_extends_while_Redis_has_no_memory_left(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, redisstate.Options{URL: server.URL()})
	store := open(t, client)
	for _, e := range []redisstate.Entry{
		{ID: "a", Workflow: "w", Value: 1}, {ID: "b", Value: 1}, {ID: "c", Workflow: "v", Value: 1}, {ID: "d", Workflow: "u", Value: 1},
	} {
		e.TTL = time.Hour
		_, err := store.Set(t.Context(), e)
		must(t, err)
	}
	must(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if _, err := store.Set(t.Context(), redisstate.Entry{ID: "e", Workflow: "w", Value: 1}); err == nil {
		t.Fatal("Redis has memory: this shows nothing")
	}
	for _, id := range []string{"b", "d"} {
		if n, err := store.Extend(t.Context(), 20*time.Hour, redisstate.ID(id)); n != 1 || err != nil {
			t.Errorf("Extend %s: %d, %v", id, n, err)
		}
		if left, err := store.TTL(t.Context(), redisstate.ID(id)); left < 19*time.Hour || err != nil {
			t.Errorf("%s lives for %v, %v", id, left, err)
		}
	}
	if n, err := store.ExtendWorkflow(t.Context(), "w", 20*time.Hour); n != 1 || err != nil {
		t.Errorf("ExtendWorkflow: %d, %v", n, err)
	}
	if left := client.PTTL(t.Context(), "temporal-redis:index:w").Val(); left < 19*time.Hour {
		t.Errorf("the index lives for %v", left)
	}
	if n, err := store.Delete(t.Context(), redisstate.ID("a"), redisstate.ID("b")); n != 2 || err != nil {
		t.Errorf("Delete: %d, %v", n, err)
	}
	if n, err := store.DeleteWorkflow(t.Context(), "v"); n != 1 || err != nil {
		t.Errorf("DeleteWorkflow: %d, %v", n, err)
	}
	if n := client.Exists(t.Context(), "temporal-redis:index:w", "temporal-redis:index:v", "temporal-redis:config:c").Val(); n != 0 {
		t.Errorf("%d keys of what was deleted are left", n)
	}
}
