//go:build integration

package redisstate_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// Two processes write one id as fast as they can, and each reads what it has just saved,
// as a third one would.
func TestSet_is_found_at_once_beside_another_writer(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"standalone": func(t *testing.T) string { return redistest.Start(t).URL() },
		"sentinel":   func(t *testing.T) string { return redistest.StartSentinel(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := start(t)
			open := func() *redisstate.Store {
				conn, err := redisstate.Connect(t.Context(), redisstate.Options{URL: url, PoolSize: 4, Registerer: prometheus.NewRegistry()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				return storeOn(t, conn.Client())
			}
			reader := open()
			var all sync.WaitGroup
			for writer := range 2 {
				s := open()
				all.Go(func() {
					for n := range 400 {
						refs, err := s.Set(t.Context(), redisstate.Entry{ID: "a", Value: strconv.Itoa(writer) + "-" + strconv.Itoa(n)})
						if err != nil {
							t.Errorf("saving: %v", err)
							return
						}
						if _, err := reader.Get(t.Context(), refs[0].Key()); err != nil {
							t.Errorf("what writer %d has just saved as number %d gives %v", writer, n, err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// storeOn is a store that remembers nothing.
func storeOn(t *testing.T, client redis.UniversalClient) *redisstate.Store {
	t.Helper()
	s, err := redisstate.NewStore(client, redisstate.Options{NearCacheBytes: -1, FixedTTL: true, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
