package redisstate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// modelIndex is what the model knows of an index of overwritten contents.
type modelIndex struct {
	refs map[Ref]bool
	dies time.Duration
}

// putAside is what overwriting does to the old content.
func (m *model) putAside(ref Ref, old modelEntry, dies time.Duration) {
	if kept := m.aside[ref]; kept.dies > m.now {
		if kept.workflow != old.workflow {
			kept.workflow, kept.ttl = old.workflow, max(kept.ttl, old.ttl)
		}
		kept.dies = max(kept.dies, dies)
		m.aside[ref] = kept
	} else {
		old.dies = dies
		m.aside[ref] = old
	}
	if old.workflow == "" {
		return
	}
	index := m.listed[old.workflow]
	if index == nil || index.dies <= m.now {
		index = &modelIndex{refs: map[Ref]bool{}}
		m.listed[old.workflow] = index
	}
	index.refs[ref] = true
	index.dies = max(index.dies, dies+indexGrace)
}

// extended is e with a longer life; ttl 0 is its own.
func (m *model) extended(e modelEntry, ttl time.Duration) modelEntry {
	if ttl == 0 {
		ttl = e.ttl
	}
	if e.dies > m.now {
		e.dies = max(e.dies, m.now+ttl)
	}
	return e
}

func (m *model) extend(key Key, ttl time.Duration) {
	ref := Ref(key)
	if e, ok := m.live(key.ID); ok && (key.Digest == "" || m.refs[ref] == e.value) {
		m.current[key.ID] = m.extended(e, ttl)
	}
	if key.Digest != "" {
		m.extendAside(ref, ttl)
	}
}

// extendAside extends overwritten content and the index that lists it.
func (m *model) extendAside(ref Ref, ttl time.Duration) {
	e := m.aside[ref]
	if e.dies <= m.now {
		return
	}
	if ttl == 0 {
		ttl = e.ttl
	}
	m.aside[ref] = m.extended(e, ttl)
	if index := m.listed[e.workflow]; index != nil && index.dies > m.now {
		index.dies = max(index.dies, m.now+ttl+indexGrace)
	}
}

// asides are the overwritten contents of a workflow.
func (m *model) asides(workflow string) []Ref {
	var refs []Ref
	if index := m.listed[workflow]; index != nil && index.dies > m.now {
		for ref := range index.refs {
			if a := m.aside[ref]; a.dies > m.now && a.workflow == workflow {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

func (m *model) currentOf(workflow string) []string {
	var ids []string
	for id := range m.current {
		if e, ok := m.live(id); ok && e.workflow == workflow {
			ids = append(ids, id)
		}
	}
	return ids
}

// lives is how long the model says that a key lives; 0 is not at all.
func (m *model) lives(key Key) time.Duration {
	e, ok := m.live(key.ID)
	var dies time.Duration
	if ok && (key.Digest == "" || m.refs[Ref(key)] == e.value) {
		dies = e.dies
	}
	if key.Digest != "" {
		dies = max(dies, m.aside[Ref(key)].dies)
	}
	return max(dies-m.now, 0)
}

// realTime is what a test on a real server may take.
const realTime = time.Minute

// lifeActions are those of Lifetimes.
func (m *model) lifeActions(ctx context.Context, store *Store, known func(*rapid.T) Ref) map[string]func(*rapid.T) {
	ttls := rapid.SampledFrom([]time.Duration{0, time.Hour, 8 * time.Hour})
	workflows := rapid.SampledFrom([]string{"w1", "w2"})
	check := func(t *rapid.T, key Key) {
		want := m.lives(key)
		got, err := store.TTL(ctx, key)
		if want == 0 {
			if !errors.Is(err, ErrNotFound) {
				t.Fatalf("the life of %v is %v, %v; want ErrNotFound", key, got, err)
			}
		} else if err != nil || got > want || got < want-realTime {
			t.Fatalf("the life of %v is %v, %v; want %v", key, got, err, want)
		}
	}
	return map[string]func(*rapid.T){
		"ttl": func(t *rapid.T) {
			check(t, ID(modelIDs.Draw(t, "id")))
			check(t, known(t).Key())
		},
		"extend": func(t *rapid.T) {
			keys, ttl := []Key{ID(modelIDs.Draw(t, "id")), known(t).Key()}, ttls.Draw(t, "ttl")
			want := 0
			for _, key := range keys {
				if m.lives(key) > 0 {
					want++
				}
			}
			if n, err := store.Extend(ctx, ttl, keys...); err != nil || n != want {
				t.Fatalf("extended %d, %v; want %d", n, err, want)
			}
			for _, key := range keys {
				m.extend(key, ttl)
				check(t, key)
			}
		},
		"extend a workflow": func(t *rapid.T) {
			workflow, ttl := workflows.Draw(t, "workflow"), ttls.Draw(t, "ttl")
			ids := m.currentOf(workflow)
			if n, err := store.ExtendWorkflow(ctx, workflow, ttl); err != nil || n != len(ids) {
				t.Fatalf("extended %d, %v; want %d", n, err, len(ids))
			}
			for _, id := range ids {
				m.extend(ID(id), ttl)
				check(t, ID(id))
			}
			for _, ref := range m.asides(workflow) {
				e, ok := m.live(ref.ID)
				if ok && e.workflow != workflow && e.value == m.refs[ref] {
					m.extendAside(ref, ttl) // not the current content: that is another's
				} else {
					m.extend(ref.Key(), ttl)
				}
				check(t, ref.Key())
			}
		},
		"delete a workflow": func(t *rapid.T) {
			workflow := workflows.Draw(t, "workflow")
			ids := m.currentOf(workflow)
			asides := m.asides(workflow)
			if n, err := store.DeleteWorkflow(ctx, workflow); err != nil || n != len(ids) {
				t.Fatalf("deleted %d, %v; want %d", n, err, len(ids))
			}
			for _, id := range ids {
				delete(m.current, id)
			}
			for _, ref := range asides {
				delete(m.aside, ref)
				check(t, ref.Key())
			}
		},
		"count": func(t *rapid.T) {
			workflow := workflows.Draw(t, "workflow")
			if n, err := store.Count(ctx, Scope{Workflow: workflow}); err != nil || n != len(m.currentOf(workflow)) {
				t.Fatalf("counted %d, %v; want %v", n, err, m.currentOf(workflow))
			}
		},
	}
}

// metadataActions are those of MetadataStore. Names are those of configs too.
func (m *model) metadataActions(ctx context.Context, stores ...*Store) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"set metadata": func(t *rapid.T) {
			name, ttl := modelIDs.Draw(t, "name"), modelTTLs.Draw(t, "ttl")
			value := rapid.IntRange(0, 9).Draw(t, "value")
			if err := rapid.SampledFrom(stores).Draw(t, "writer").SetMetadata(ctx, name, []byte(fmt.Sprint(value)), ttl); err != nil {
				t.Fatalf("set metadata: %v", err)
			}
			if ttl == 0 {
				ttl = 2 * time.Hour
			}
			m.names[name] = modelEntry{value: value, dies: m.now + ttl}
		},
		"metadata": func(t *rapid.T) {
			name := modelIDs.Draw(t, "name")
			want := m.names[name]
			for _, store := range stores {
				got, err := store.Metadata(ctx, name)
				if want.dies <= m.now {
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("metadata %s is %s, %v; want ErrNotFound", name, got, err)
					}
				} else if err != nil || string(got) != fmt.Sprint(want.value) {
					t.Fatalf("metadata %s is %s, %v; want %d", name, got, err, want.value)
				}
			}
		},
		"delete metadata": func(t *rapid.T) {
			name := modelIDs.Draw(t, "name")
			if n, err := stores[0].DeleteMetadata(ctx, name, "none"); err != nil || (n == 1) != (m.names[name].dies > m.now) {
				t.Fatalf("deleted %d, %v; the model has it: %v", n, err, m.names[name].dies > m.now)
			}
			delete(m.names, name)
		},
	}
}
