package redisstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

func TestStore_behaves_like_a_map_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	for name, format := range modelFormats(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			client := newClient(t, server)
			rapid.Check(t, func(t *rapid.T) {
				server.FlushAll()
				checkModel(t, client, format, func(d time.Duration) error { server.FastForward(d); return nil })
			})
		})
	}
}

// modelFormats are the ways of storing that a model is checked with.
func modelFormats(tb testing.TB) map[string]Options {
	ring := ringOf(tb, EncryptionKey{ID: "k1", Key: bytes.Repeat([]byte("k"), 32)})
	return map[string]Options{
		"plain":                    {},
		"compressed and encrypted": {Compression: CompressionZstd, Keys: ring, RequireEncryption: true},
	}
}

// age lets time pass for a real server's keys by taking it off their lives.
func age(ctx context.Context, client *redis.Client, d time.Duration) error {
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		left, err := client.PTTL(ctx, keys.Val()).Result()
		switch {
		case err != nil:
			return err
		case left < 0:
			return fmt.Errorf("%s never expires", keys.Val())
		case left <= d:
			err = client.Del(ctx, keys.Val()).Err()
		default:
			err = client.PExpire(ctx, keys.Val(), left-d).Err()
		}
		if err != nil {
			return err
		}
	}
	return keys.Err()
}

// modelEntry is what the model knows of stored content. Times are virtual.
type modelEntry struct {
	value    int
	workflow string
	ttl      time.Duration
	dies     time.Duration
}

// model is the store as maps.
type model struct {
	now     time.Duration
	current map[string]modelEntry
	aside   map[Ref]modelEntry
	listed  map[string]*modelIndex // overwritten contents of a workflow
	refs    map[Ref]int            // every ref ever given and its content
	names   map[string]modelEntry  // metadata
}

func newModel() *model {
	return &model{
		current: map[string]modelEntry{}, aside: map[Ref]modelEntry{}, listed: map[string]*modelIndex{},
		refs: map[Ref]int{}, names: map[string]modelEntry{},
	}
}

func (m *model) live(id string) (modelEntry, bool) {
	e, ok := m.current[id]
	return e, ok && e.dies > m.now
}

func (m *model) has(ref Ref) bool {
	if e, ok := m.live(ref.ID); ok && e.value == m.refs[ref] {
		return true
	}
	return m.aside[ref].dies > m.now
}

func (m *model) set(ref Ref, e modelEntry) {
	e.dies = m.now + e.ttl
	old, ok := m.live(ref.ID)
	switch {
	case ok && old.value != e.value:
		for r, v := range m.refs {
			if r.ID == ref.ID && v == old.value {
				m.putAside(r, old, max(m.now+old.ttl, old.dies))
			}
		}
	case ok && old.workflow == e.workflow && e.ttl <= old.ttl:
		old.dies = max(old.dies, e.dies)
		e = old
	case ok:
		e.ttl = max(e.ttl, old.ttl)
		e.dies = max(old.dies, m.now+e.ttl)
	}
	m.current[ref.ID] = e
	m.refs[ref] = e.value
}

var (
	modelIDs       = rapid.SampledFrom([]string{"a", "a:1", "{x}"})
	modelWorkflows = rapid.SampledFrom([]string{"", "w1", "w2"})
	modelTTLs      = rapid.SampledFrom([]time.Duration{0, time.Hour, 4 * time.Hour})
)

// checkModel does random things to a store and to the model of it and compares
// what they say. One reader has no near cache and must agree exactly; the other
// has one and may know more.
func checkModel(t *rapid.T, client redis.UniversalClient, format Options, pass func(time.Duration) error) {
	ctx := context.Background()
	open := func(near int64) *Store {
		o := quiet()
		o.Compression, o.Keys, o.RequireEncryption = format.Compression, format.Keys, format.RequireEncryption
		o.TTL, o.NearCacheBytes, o.FixedTTL = 2*time.Hour, near, true // sliding has no moment that a model knows
		store, err := NewStore(client, o)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	exact, cached := open(-1), open(0)
	defer func() { _, _ = exact.Close(), cached.Close() }()
	m := newModel()
	for _, store := range []*Store{exact, cached} {
		store.now = func() time.Time { return time.Now().Add(m.now) }
	}
	known := func(t *rapid.T) Ref {
		refs := make([]Ref, 0, len(m.refs))
		for ref := range m.refs {
			refs = append(refs, ref)
		}
		slices.SortFunc(refs, func(a, b Ref) int {
			return slices.Compare([]string{a.ID, string(a.Digest)}, []string{b.ID, string(b.Digest)})
		})
		if len(refs) == 0 {
			t.Skip("no ref yet")
		}
		return rapid.SampledFrom(refs).Draw(t, "ref")
	}
	lists := func(t *rapid.T, scope Scope, want func(id string, e modelEntry) bool) {
		var got, wanted []string
		for key, err := range exact.Scan(ctx, scope) {
			if err != nil {
				t.Fatalf("scan: %v", err)
			}
			got = append(got, key.ID)
		}
		for id := range m.current {
			if e, ok := m.live(id); ok && want(id, e) {
				wanted = append(wanted, id)
			}
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Fatalf("scan %+v gave %v; want %v", scope, got, wanted)
		}
	}
	actions := map[string]func(*rapid.T){
		"set": func(t *rapid.T) {
			n := rapid.IntRange(1, 4).Draw(t, "n")
			entries := make([]Entry, n)
			for i := range entries {
				entries[i] = Entry{
					ID: modelIDs.Draw(t, "id"), Workflow: modelWorkflows.Draw(t, "workflow"),
					Value: rapid.IntRange(0, 2).Draw(t, "value"), TTL: modelTTLs.Draw(t, "ttl"),
				}
			}
			writer := rapid.SampledFrom([]*Store{exact, cached}).Draw(t, "writer")
			refs, err := writer.Set(ctx, entries...)
			if err != nil {
				t.Fatalf("set: %v", err)
			}
			for i, e := range entries {
				ttl := e.TTL
				if ttl == 0 {
					ttl = 2 * time.Hour
				}
				m.set(refs[i], modelEntry{value: e.Value.(int), workflow: e.Workflow, ttl: ttl})
			}
		},
		"get": func(t *rapid.T) {
			id := modelIDs.Draw(t, "id")
			want, ok := m.live(id)
			for _, store := range []*Store{exact, cached} {
				config, err := store.Get(ctx, ID(id))
				if !ok {
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("get %s gave %s, %v; want ErrNotFound", id, config.JSON(), err)
					}
					continue
				}
				if err != nil || string(config.JSON()) != fmt.Sprint(want.value) || config.Workflow != want.workflow {
					t.Fatalf("get %s gave %s of %q, %v; want %+v", id, config.JSON(), config.Workflow, err, want)
				}
			}
		},
		"get by ref": func(t *rapid.T) {
			ref := known(t)
			for _, store := range []*Store{exact, cached} {
				config, err := store.Get(ctx, ref.Key())
				switch {
				case err == nil && (m.has(ref) || store == cached):
					if string(config.JSON()) != fmt.Sprint(m.refs[ref]) || config.Ref != ref {
						t.Fatalf("%v gave %s as %v; want %d", ref, config.JSON(), config.Ref, m.refs[ref])
					}
				case m.has(ref) || !errors.Is(err, ErrNotFound):
					t.Fatalf("%v gave %s, %v; the model has it: %v", ref, config.JSON(), err, m.has(ref))
				}
			}
		},
		"get many": func(t *rapid.T) {
			a, b, ref := modelIDs.Draw(t, "a"), modelIDs.Draw(t, "b"), known(t)
			found, err := exact.GetMany(ctx, ID(a), ID(b), ref.Key())
			if err != nil {
				t.Fatalf("get many: %v", err)
			}
			for _, id := range []string{a, b} {
				want, ok := m.live(id)
				if got, there := found[ID(id)]; there != ok || (ok && string(got.JSON()) != fmt.Sprint(want.value)) {
					t.Fatalf("get many gave %s for %s; want %+v, %v", got.JSON(), id, want, ok)
				}
			}
			if got, there := found[ref.Key()]; there != m.has(ref) || (there && string(got.JSON()) != fmt.Sprint(m.refs[ref])) {
				t.Fatalf("get many gave %s for %v; want %d, %v", got.JSON(), ref, m.refs[ref], m.has(ref))
			}
		},
		"delete": func(t *rapid.T) {
			id := modelIDs.Draw(t, "id")
			_, ok := m.live(id)
			if n, err := cached.Delete(ctx, ID(id)); err != nil || (n == 1) != ok {
				t.Fatalf("delete %s gave %d, %v; the model has it: %v", id, n, err, ok)
			}
			delete(m.current, id)
		},
		"delete by ref": func(t *rapid.T) {
			ref := known(t)
			if n, err := exact.Delete(ctx, ref.Key()); err != nil || (n == 1) != m.has(ref) {
				t.Fatalf("delete %v gave %d, %v; the model has it: %v", ref, n, err, m.has(ref))
			}
			if e, ok := m.live(ref.ID); ok && e.value == m.refs[ref] {
				delete(m.current, ref.ID)
			}
			delete(m.aside, ref)
		},
		"scan a workflow": func(t *rapid.T) {
			workflow := rapid.SampledFrom([]string{"w1", "w2"}).Draw(t, "workflow")
			lists(t, Scope{Workflow: workflow}, func(_ string, e modelEntry) bool { return e.workflow == workflow })
		},
		"scan": func(t *rapid.T) { lists(t, Scope{}, func(string, modelEntry) bool { return true }) },
		"scan a prefix": func(t *rapid.T) {
			lists(t, Scope{Prefix: "a"}, func(id string, _ modelEntry) bool { return id[0] == 'a' })
		},
		"pass time": func(t *rapid.T) {
			d := time.Duration(rapid.IntRange(1, 3).Draw(t, "steps")) * 37 * time.Minute
			if err := pass(d); err != nil {
				t.Fatal(err)
			}
			m.now += d
		},
	}
	maps.Copy(actions, m.lifeActions(ctx, exact, known))
	maps.Copy(actions, m.metadataActions(ctx, exact, cached))
	t.Repeat(actions)
}
