package contract

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// Each of these is a Store with one thing wrong.
type (
	extendsNothing      struct{ Store }
	extendsCurrentOnly  struct{ Store }
	deletesCurrentOnly  struct{ Store }
	deletesUnlistedOnly struct{ Store }
	mixesMetadata       struct{ Store }
	countsEverything    struct{ Store }
	livesByID           struct{ Store }
	acceptsMismatch     struct{ Store }
	extendsByReading    struct{ Store }
	// loadsItself loads what is missing without its store.
	loadsItself struct {
		Store
		source redisstate.Source
		save   bool
	}
)

func (s extendsNothing) Extend(ctx context.Context, ttl time.Duration, keys ...redisstate.Key) (int, error) {
	return s.Store.Extend(ctx, min(ttl, time.Millisecond), keys...)
}

func idsOf(ctx context.Context, s Store, workflow string) []redisstate.Key {
	var keys []redisstate.Key
	for key, err := range s.Scan(ctx, redisstate.Scope{Workflow: workflow}) {
		if err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func (s extendsCurrentOnly) ExtendWorkflow(ctx context.Context, workflow string, ttl time.Duration) (int, error) {
	return s.Extend(ctx, ttl, idsOf(ctx, s, workflow)...)
}

func (s deletesCurrentOnly) DeleteWorkflow(ctx context.Context, workflow string) (int, error) {
	return s.Delete(ctx, idsOf(ctx, s, workflow)...)
}

func (s deletesUnlistedOnly) DeleteWorkflow(ctx context.Context, workflow string) (int, error) {
	return len(idsOf(ctx, s, workflow)), nil
}

func (s mixesMetadata) SetMetadata(ctx context.Context, name string, data []byte, ttl time.Duration) error {
	if _, err := s.Set(ctx, redisstate.Entry{ID: name, Value: string(data)}); err != nil {
		return err
	}
	return s.Store.SetMetadata(ctx, name, data, ttl)
}

func (s countsEverything) Count(ctx context.Context, _ redisstate.Scope) (int, error) {
	return s.Store.Count(ctx, redisstate.Scope{})
}

func (s livesByID) TTL(ctx context.Context, key redisstate.Key) (time.Duration, error) {
	return s.Store.TTL(ctx, redisstate.ID(key.ID))
}

func (s acceptsMismatch) Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
	config, err := s.Store.Get(ctx, key)
	if errors.Is(err, redisstate.ErrSourceMismatch) {
		return s.Store.Get(ctx, redisstate.ID(key.ID))
	}
	return config, err
}

func (s extendsByReading) Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
	config, err := s.Store.Get(ctx, key)
	if err == nil {
		_, err = s.Extend(ctx, 0, key)
	}
	return config, err
}

func (s loadsItself) Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
	config, err := s.Store.Get(ctx, key)
	if s.source == nil || !errors.Is(err, redisstate.ErrNotFound) {
		return config, err
	}
	entry, err := s.source.Load(ctx, key)
	if err != nil {
		return redisstate.Config{}, err
	}
	entry.ID = key.ID
	if s.save {
		if _, err := s.Set(ctx, entry); err != nil {
			return redisstate.Config{}, err
		}
	}
	return redisstate.NewConfig(entry.ID, entry.Workflow, entry.Value)
}

// wrapped are stores with a fault.
func wrapped(fault func(Store) Store) func(opener) opener {
	return func(sound opener) opener {
		return func(tb testing.TB, opts redisstate.Options) Store { return fault(sound(tb, opts)) }
	}
}

// optioned are stores that take an option for another.
func optioned(change func(*redisstate.Options)) func(opener) opener {
	return func(sound opener) opener {
		return func(tb testing.TB, opts redisstate.Options) Store {
			change(&opts)
			return sound(tb, opts)
		}
	}
}

// selfLoading are stores that do without Options.Source.
func selfLoading(save bool) func(opener) opener {
	return func(sound opener) opener {
		return func(tb testing.TB, opts redisstate.Options) Store {
			source := opts.Source
			opts.Source = nil
			return loadsItself{Store: sound(tb, opts), source: source, save: save}
		}
	}
}

func TestConfigStore_rejects_stores_with_a_fault_in_what_lasts(t *testing.T) {
	t.Parallel()
	sound := wrapped(func(s Store) Store { return s })
	for name, test := range map[string]struct {
		fault   func(opener) opener
		promise string
	}{
		"Extend does nothing":                  {wrapped(func(s Store) Store { return extendsNothing{s} }), "extends a life and never shortens it"},
		"ExtendWorkflow forgets overwritten":   {wrapped(func(s Store) Store { return extendsCurrentOnly{s} }), "extends everything of a workflow"},
		"DeleteWorkflow leaves overwritten":    {wrapped(func(s Store) Store { return deletesCurrentOnly{s} }), "deletes everything of a workflow"},
		"DeleteWorkflow does nothing":          {wrapped(func(s Store) Store { return deletesUnlistedOnly{s} }), "deletes everything of a workflow"},
		"metadata is configs":                  {wrapped(func(s Store) Store { return mixesMetadata{s} }), "keeps metadata and configs apart"},
		"Count ignores its scope":              {wrapped(func(s Store) Store { return countsEverything{s} }), "counts"},
		"TTL is that of the current content":   {wrapped(func(s Store) Store { return livesByID{s} }), "tells how long a config stays"},
		"reads do not extend":                  {optioned(func(o *redisstate.Options) { o.FixedTTL = true }), "extends the life of what is read"},
		"reads of metadata do not extend":      {optioned(func(o *redisstate.Options) { o.FixedTTL = true }), "extends the life of metadata that is read"},
		"reads extend what is fixed":           {wrapped(func(s Store) Store { return extendsByReading{s} }), "does not extend by reading where lives are fixed"},
		"the source is not asked":              {optioned(func(o *redisstate.Options) { o.Source = nil }), "regenerates what is missing from its source"},
		"the source is not asked for many":     {selfLoading(true), "regenerates many at once"},
		"what the source gave is not saved":    {selfLoading(false), "regenerates what is missing from its source"},
		"what the source gave overwrites":      {selfLoading(true), "regenerates the content of a ref beside newer content"},
		"everyone loads":                       {selfLoading(true), "loads once for all who wait"},
		"other content is taken for the ref's": {wrapped(func(s Store) Store { return acceptsMismatch{s} }), "refuses regenerated content that a ref does not name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !keeps(t, test.promise, sound) {
				t.Fatal("a sound store is rejected")
			}
			if keeps(t, test.promise, test.fault) {
				t.Fatalf("passes %q", test.promise)
			}
		})
	}
}
