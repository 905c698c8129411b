package redisstate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// MetadataStore keeps bytes under names, beside the configs: what a host
// remembers of an execution and wants to change in place. Unlike a config,
// metadata has no digest, no workflow and no listing. Store has it.
//
// Every method may also return errors wrapping ErrUnavailable, ErrDenied,
// ErrClosed, and the context's error when the caller gave up.
type MetadataStore interface {
	// SetMetadata saves data under a name, in place of what was there. ttl is its
	// time to live, in whole milliseconds; 0 means the store's (Options.TTL).
	// Errors: ErrInvalidKey, ErrInvalidValue, ErrTooLarge.
	SetMetadata(ctx context.Context, name string, data []byte, ttl time.Duration) error
	// Metadata reads what was saved under a name. The caller may change the
	// bytes. Errors: ErrNotFound, ErrInvalidKey, ErrCorrupt, ErrNewerFormat,
	// ErrUnknownKey, ErrNotEncrypted, ErrTooLarge, ErrWrongType.
	Metadata(ctx context.Context, name string) ([]byte, error)
	// DeleteMetadata removes what was saved under names and tells how many there
	// were, but for what was removed by a command whose reply was lost, and that was
	// sent again. Errors: ErrInvalidKey, told before anything is removed.
	DeleteMetadata(ctx context.Context, names ...string) (int, error)
}

// Names of the operations on metadata and of its key family.
const (
	opSetMetadata    = "redisstate: set metadata"
	opMetadata       = "redisstate: get metadata"
	opDeleteMetadata = "redisstate: delete metadata"
	metadataFamily   = "metadata"
)

func failMetadata(op string, err error) error {
	return fmt.Errorf("%s (%s): %w", op, metadataFamily, err)
}

// metadataError is redisError for metadata.
func metadataError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case rediserr.Classify(ctx, err) == rediserr.NotFound:
		return &MissingError{Op: op, Family: metadataFamily}
	case rediserr.IsWrongType(err):
		return failMetadata(op, ErrWrongType)
	}
	return rediserr.Wrap(ctx, op, metadataFamily, err)
}

// SetMetadata implements MetadataStore.
func (s *Store) SetMetadata(ctx context.Context, name string, data []byte, ttl time.Duration) error {
	if s.closed.Load() {
		return failMetadata(opSetMetadata, ErrClosed)
	}
	if ttl == 0 {
		ttl = s.ttl
	}
	errs := []error{checkID("metadata name", name)}
	if ttl < time.Millisecond {
		errs = append(errs, fmt.Errorf("%w: the time to live is %v; use at least 1ms, or 0 for the store's", ErrInvalidValue, ttl))
	}
	if len(data) > s.maxBytes {
		errs = append(errs, fmt.Errorf("%w: %d bytes; split it, or raise Options.MaxConfigBytes (%d)", ErrTooLarge, len(data), s.maxBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return failMetadata(opSetMetadata, err)
	}
	// A read needs the time to live to extend it, so it is stored along.
	plain := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(data)), uint64(ttl.Milliseconds()))
	raw, err := s.blobs.encode(metadataFamily, name, append(plain, data...))
	if err != nil {
		return failMetadata(opSetMetadata, err)
	}
	if err := s.client.Set(ctx, s.space.Metadata(name), raw, ttl).Err(); err != nil {
		return metadataError(ctx, opSetMetadata, err)
	}
	s.slides.saved(slideKey{Key: ID(name), metadata: true}, ttl)
	return nil
}

// Metadata implements MetadataStore.
func (s *Store) Metadata(ctx context.Context, name string) ([]byte, error) {
	if s.closed.Load() {
		return nil, failMetadata(opMetadata, ErrClosed)
	}
	if err := checkID("metadata name", name); err != nil {
		return nil, failMetadata(opMetadata, err)
	}
	raw, err := s.client.Get(ctx, s.space.Metadata(name)).Bytes()
	if err != nil {
		return nil, metadataError(ctx, opMetadata, err)
	}
	plain, err := s.blobs.decode(metadataFamily, name, raw)
	if err != nil {
		return nil, failMetadata(opMetadata, err)
	}
	ms, n := binary.Uvarint(plain)
	if n <= 0 || ms > uint64(math.MaxInt64/int64(time.Millisecond)) {
		return nil, failMetadata(opMetadata, fmt.Errorf("%w: its time to live is unreadable", ErrCorrupt))
	}
	ttl := time.Duration(ms) * time.Millisecond
	s.slides.read(s.slides.of(slideKey{Key: ID(name), metadata: true}, ttl))
	return plain[n:], nil
}

// DeleteMetadata implements MetadataStore.
func (s *Store) DeleteMetadata(ctx context.Context, names ...string) (int, error) {
	if s.closed.Load() {
		return 0, failMetadata(opDeleteMetadata, ErrClosed)
	}
	var errs []error
	for i, name := range names {
		if err := checkID("metadata name", name); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): name %d of %d: %w", opDeleteMetadata, metadataFamily, i+1, len(names), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	removed := 0
	for len(names) > 0 {
		batch := names[:min(len(names), maxBatch)]
		names = names[len(batch):]
		replies := make([]*redis.IntCmd, len(batch))
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range batch {
				replies[i] = p.Del(ctx, s.space.Metadata(name))
			}
			return nil
		})
		for _, reply := range replies {
			removed += int(reply.Val())
		}
		if err != nil {
			return removed, metadataError(ctx, opDeleteMetadata, err)
		}
	}
	return removed, nil
}
