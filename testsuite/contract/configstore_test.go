package contract

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// embeddedConfigs is a backend on embedded Redis.
func embeddedConfigs(tb testing.TB) ConfigStoreBackend {
	tb.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	return ConfigStoreOnRedis(tb, func(tb testing.TB) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
		tb.Cleanup(func() { _ = client.Close() })
		return client
	})
}

func TestConfigStore_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	tally := ConfigStore(t, embeddedConfigs)
	t.Cleanup(func() {
		if tally.Kept() != tally.Cases() || tally.Cases() == 0 {
			t.Errorf("%d of %d cases kept", tally.Kept(), tally.Cases())
		}
	})
}

// broken is a store with one thing wrong.
type broken struct {
	Store
	get  func(Store, context.Context, redisstate.Key) (redisstate.Config, error)
	set  func(Store, context.Context, []redisstate.Entry) ([]redisstate.Ref, error)
	gone func(Store, context.Context, []redisstate.Key) (int, error)
}

func (b broken) Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
	if b.get != nil {
		return b.get(b.Store, ctx, key)
	}
	return b.Store.Get(ctx, key)
}

func (b broken) Set(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error) {
	if b.set != nil {
		return b.set(b.Store, ctx, entries)
	}
	return b.Store.Set(ctx, entries...)
}

func (b broken) Delete(ctx context.Context, keys ...redisstate.Key) (int, error) {
	if b.gone != nil {
		return b.gone(b.Store, ctx, keys)
	}
	return b.Store.Delete(ctx, keys...)
}

// verdict is a test that only notes whether it failed.
type verdict struct {
	testing.TB
	failed atomic.Bool
}

func (v *verdict) Error(...any)          { v.failed.Store(true) }
func (v *verdict) Errorf(string, ...any) { v.failed.Store(true) }
func (v *verdict) Fatal(...any)          { v.failed.Store(true); runtime.Goexit() }
func (v *verdict) Fatalf(string, ...any) { v.failed.Store(true); runtime.Goexit() }

// keeps tells whether a store with a fault keeps a promise.
func keeps(t *testing.T, fault broken, promise string) bool {
	t.Helper()
	at := slices.IndexFunc(configStoreCases, func(c configStoreCase) bool { return c.name == promise })
	if at < 0 {
		t.Fatalf("no case is called %q", promise)
	}
	v := &verdict{TB: t}
	backend := embeddedConfigs(t)
	sound := backend.Open
	backend.Open = func(tb testing.TB, opts redisstate.Options) Store {
		b := fault
		b.Store = sound(tb, opts)
		return b
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		configStoreCases[at].check(v, backend)
	}()
	<-done
	return !v.failed.Load()
}

func TestConfigStore_rejects_stores_with_a_fault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault   broken
		promise string
	}{
		"refs give the current content": {broken{get: func(s Store, ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
			return s.Get(ctx, redisstate.ID(key.ID))
		}}, "reads overwritten content by its ref"},
		"overwriting forgets": {broken{set: func(s Store, ctx context.Context, entries []redisstate.Entry) ([]redisstate.Ref, error) {
			for _, e := range entries {
				if len(e.ID) > 0 && len(e.ID) < 100 {
					_, _ = s.Delete(ctx, redisstate.ID(e.ID))
				}
			}
			return s.Set(ctx, entries...)
		}}, "reads content by its ref through many overwrites"},
		"writes what is valid": {broken{set: func(s Store, ctx context.Context, entries []redisstate.Entry) (refs []redisstate.Ref, err error) {
			for _, e := range entries {
				ref, one := s.Set(ctx, e)
				if one != nil {
					err = one
				}
				refs = append(refs, ref...)
			}
			return refs, err
		}}, "writes nothing when an entry is invalid"},
		"one time to live for all": {broken{set: func(s Store, ctx context.Context, entries []redisstate.Entry) ([]redisstate.Ref, error) {
			entries = slices.Clone(entries)
			for i := range entries {
				if entries[i].TTL > 0 {
					entries[i].TTL = 24 * time.Hour
				}
			}
			return s.Set(ctx, entries...)
		}}, "gives an entry its own time to live"},
		"deletes whatever is current": {broken{gone: func(s Store, ctx context.Context, keys []redisstate.Key) (int, error) {
			keys = slices.Clone(keys)
			for i := range keys {
				keys[i].Digest = ""
			}
			return s.Delete(ctx, keys...)
		}}, "deletes content by its ref only if it is there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !keeps(t, broken{}, test.promise) {
				t.Fatal("a sound store is rejected")
			}
			if keeps(t, test.fault, test.promise) {
				t.Fatalf("passes %q", test.promise)
			}
		})
	}
}
