package redisstate

import (
	"context"
	"errors"
	"fmt"
)

// Typed reads and writes configs of one Go type. For makes one. It holds only
// the store and may be made anew for each use.
type Typed[T any] struct {
	store ConfigStore
}

// For gives typed access to a store.
func For[T any](store ConfigStore) Typed[T] { return Typed[T]{store: store} }

// Get reads a config and decodes it. The value is shared: treat it as
// read-only. Errors: those of ConfigStore.Get and Decode.
func (t Typed[T]) Get(ctx context.Context, key Key) (*T, Ref, error) {
	config, err := t.store.Get(ctx, key)
	if err != nil {
		return nil, Ref{}, err
	}
	v, err := Decode[T](config)
	return v, config.Ref, err
}

// GetMany reads several configs and decodes them. Missing ones are absent from
// the map. When there is an error the map holds what could be read and decoded.
func (t Typed[T]) GetMany(ctx context.Context, keys ...Key) (map[Key]*T, error) {
	configs, err := t.store.GetMany(ctx, keys...)
	values := make(map[Key]*T, len(configs))
	errs := []error{err}
	for key, config := range configs {
		v, err := Decode[T](config)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		values[key] = v
	}
	return values, errors.Join(errs...)
}

// Set saves v under id for a workflow ("" means none). Errors: those of
// ConfigStore.Set.
func (t Typed[T]) Set(ctx context.Context, workflow, id string, v *T) (Ref, error) {
	if v == nil {
		return Ref{}, fmt.Errorf("redisstate: set (config): %w: it is nil; give it a value", ErrInvalidValue)
	}
	refs, err := t.store.Set(ctx, Entry{ID: id, Workflow: workflow, Value: v})
	if err != nil {
		return Ref{}, err
	}
	return refs[0], nil
}
