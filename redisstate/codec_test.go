package redisstate

import (
	"bytes"
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
)

// exact is a Codec that reads numbers as they are written, and counts.
type exact struct{ marshals, unmarshals atomic.Int64 }

func (e *exact) Marshal(v any) ([]byte, error) {
	e.marshals.Add(1)
	return json.Marshal(v)
}

func (e *exact) Unmarshal(data []byte, v any) error {
	e.unmarshals.Add(1)
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// What a host gives as Codec makes and reads all values, and changes no digest.
func TestCodec_of_the_host_is_used_for_every_value(t *testing.T) {
	t.Parallel()
	type values = map[string]any
	client := newClient(t, newServer(t))
	with := func(e *exact) Options {
		o := quiet()
		o.Codec, o.NearCacheBytes = e, -1
		return o
	}
	for name, use := range map[string]func(ctx context.Context, o Options) (values, error){
		"Typed": func(ctx context.Context, o Options) (values, error) {
			typed := For[values](newStore(t, client, o))
			ref, err := typed.Set(ctx, "", "typed", &values{"n": 1})
			if err != nil {
				return nil, err
			}
			plain, err := newStore(t, client, quiet()).Set(ctx, Entry{ID: "plain", Value: values{"n": 1}})
			if err != nil || plain[0].Digest != ref.Digest {
				t.Errorf("its digest is %v; encoding/json gives %v, %v", ref, plain, err)
			}
			v, _, err := typed.Get(ctx, ref.Key())
			return *v, err
		},
		"Config.Unmarshal": func(ctx context.Context, o Options) (v values, err error) {
			store := newStore(t, client, o)
			if _, err := store.Set(ctx, Entry{ID: "own", Value: values{"n": 1}}); err != nil {
				return nil, err
			}
			config, err := store.Get(ctx, ID("own"))
			if err != nil {
				return nil, err
			}
			return v, config.Unmarshal(&v)
		},
		"Session": func(ctx context.Context, o Options) (values, error) {
			session := openSession(t, newSessions(t, client, o), "run")
			if err := session.Set(ctx, "v", values{"n": 1}); err != nil {
				return nil, err
			}
			return SessionGet[values](ctx, session, "v")
		},
		"Cache": func(ctx context.Context, o Options) (values, error) {
			load := func(context.Context, string) (values, error) { return values{"n": 1}, nil }
			cache, err := NewCache(client, CacheOptions[values]{Kind: "k", Load: load}, o)
			if err != nil {
				return nil, err
			}
			defer func() { _ = cache.Close() }()
			if _, err := cache.Get(ctx, "a"); err != nil { // loaded
				return nil, err
			}
			return cache.Get(ctx, "a") // read
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var codec exact
			got, err := use(t.Context(), with(&codec))
			if n, ok := got["n"].(json.Number); err != nil || !ok || n != "1" {
				t.Errorf("got %#v, %v; want what the Codec makes of it", got, err)
			}
			if codec.marshals.Load() == 0 || codec.unmarshals.Load() == 0 {
				t.Errorf("it was asked %d times to marshal and %d to unmarshal", codec.marshals.Load(), codec.unmarshals.Load())
			}
		})
	}
}
