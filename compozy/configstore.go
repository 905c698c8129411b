package compozy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// Store is what the adapter needs of a store; redisstate.Store has it.
type Store interface {
	Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error)
	Set(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error)
	Delete(ctx context.Context, keys ...redisstate.Key) (int, error)
	SetMetadata(ctx context.Context, name string, data []byte, ttl time.Duration) error
	Metadata(ctx context.Context, name string) ([]byte, error)
	DeleteMetadata(ctx context.Context, names ...string) (int, error)
}

// Options are the settings of a ConfigStore of T. The zero value works.
type Options[T any] struct {
	// Workflow tells which workflow a config belongs to, under which
	// redisstate.Store.Scan lists it; "" means none. It must not change the
	// config. Defaults to none: Compozy's interface does not say.
	Workflow func(taskExecID string, config *T) string
	// TTL is the time to live of configs and metadata, in whole milliseconds.
	// Defaults to the store's.
	TTL time.Duration
}

// ConfigStore has the method set of Compozy's services.ConfigStore, with the
// host's config type as T. NewConfigStore makes it. It is safe for concurrent
// use.
//
// Beside the errors that each method names, all return those of
// redisstate.ConfigStore, wrapped: errors.Is finds redisstate.ErrUnavailable and
// the others.
type ConfigStore[T any] struct {
	store   Store
	options Options[T]
	closed  atomic.Bool
}

// NewConfigStore makes a ConfigStore on a store, which it never closes. It
// panics if store is nil.
func NewConfigStore[T any](store Store, o Options[T]) *ConfigStore[T] {
	if store == nil {
		panic("compozy: NewConfigStore needs a store; use redisstate.NewStore or worker.Plugin.Store")
	}
	return &ConfigStore[T]{store: store, options: o}
}

// Save stores a config under a task execution id, in place of the one that is
// there.
func (s *ConfigStore[T]) Save(ctx context.Context, taskExecID string, config *T) error {
	if err := s.check(ctx, taskExecID, errNoTaskExecID); err != nil {
		return err
	}
	if config == nil {
		return errNilConfig
	}
	entry := redisstate.Entry{ID: taskExecID, Value: config, TTL: s.options.TTL}
	if s.options.Workflow != nil {
		entry.Workflow = s.options.Workflow(taskExecID, config)
	}
	if _, err := s.store.Set(ctx, entry); err != nil {
		return fmt.Errorf("failed to save config for taskExecID %s: %w", shown(taskExecID), err)
	}
	return nil
}

// Get reads the current config of a task execution id into a T of the caller's
// own. Errors: ErrNotFound; redisstate.ErrCorrupt when the config is not a T.
func (s *ConfigStore[T]) Get(ctx context.Context, taskExecID string) (*T, error) {
	if err := s.check(ctx, taskExecID, errNoTaskExecID); err != nil {
		return nil, err
	}
	stored, err := s.store.Get(ctx, redisstate.ID(taskExecID))
	if errors.Is(err, redisstate.ErrNotFound) {
		return nil, &notFoundError{"config not found for taskExecID " + shown(taskExecID), err}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get config for taskExecID %s: %w", shown(taskExecID), err)
	}
	// Not redisstate.Decode: what that returns is shared, and Compozy changes it.
	config := new(T)
	if err := stored.Unmarshal(config); err != nil {
		return nil, fmt.Errorf("failed to get config for taskExecID %s: %w", shown(taskExecID), err)
	}
	return config, nil
}

// Delete removes the config of a task execution id. One that is not there is no
// error.
func (s *ConfigStore[T]) Delete(ctx context.Context, taskExecID string) error {
	if err := s.check(ctx, taskExecID, errNoTaskExecID); err != nil {
		return err
	}
	if _, err := s.store.Delete(ctx, redisstate.ID(taskExecID)); err != nil {
		return fmt.Errorf("failed to delete config for taskExecID %s: %w", shown(taskExecID), err)
	}
	return nil
}

// SaveMetadata stores bytes under a key, in place of those that are there. The
// data may be empty, but not nil.
func (s *ConfigStore[T]) SaveMetadata(ctx context.Context, key string, data []byte) error {
	if err := s.check(ctx, key, errNoKey); err != nil {
		return err
	}
	if data == nil {
		return errNilData
	}
	if err := s.store.SetMetadata(ctx, key, data, s.options.TTL); err != nil {
		return fmt.Errorf("failed to save metadata for key %s: %w", shown(key), err)
	}
	return nil
}

// GetMetadata reads the bytes under a key; they are the caller's own. Errors:
// ErrNotFound.
func (s *ConfigStore[T]) GetMetadata(ctx context.Context, key string) ([]byte, error) {
	if err := s.check(ctx, key, errNoKey); err != nil {
		return nil, err
	}
	data, err := s.store.Metadata(ctx, key)
	if errors.Is(err, redisstate.ErrNotFound) {
		return nil, &notFoundError{"metadata not found for key " + shown(key), err}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get metadata for key %s: %w", shown(key), err)
	}
	return append(make([]byte, 0, len(data)), data...), nil
}

// DeleteMetadata removes the bytes under a key. A key that is not there is no
// error.
func (s *ConfigStore[T]) DeleteMetadata(ctx context.Context, key string) error {
	if err := s.check(ctx, key, errNoKey); err != nil {
		return err
	}
	if _, err := s.store.DeleteMetadata(ctx, key); err != nil {
		return fmt.Errorf("failed to delete metadata for key %s: %w", shown(key), err)
	}
	return nil
}

// Close ends the adapter: what is called afterwards returns redisstate.ErrClosed.
// The store and its client stay open. Closing twice is fine.
func (s *ConfigStore[T]) Close() error {
	s.closed.Store(true)
	return nil
}

// check refuses in Compozy's order and words what it refuses.
func (s *ConfigStore[T]) check(ctx context.Context, id string, empty error) error {
	switch err := ctx.Err(); {
	case err != nil:
		return fmt.Errorf("context canceled: %w", err)
	case id == "":
		return empty
	case s.closed.Load():
		return fmt.Errorf("compozy: config store: %w", redisstate.ErrClosed)
	}
	return nil
}
