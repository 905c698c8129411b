package redisstate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Sessions gives access to the sessions of executions: typed values under names
// that the activities of one execution share, for as long as it runs. One hash
// in Redis holds a session. NewSessions makes it. It is safe for concurrent use
// and runs nothing in the background.
type Sessions struct {
	client   redis.UniversalClient
	space    keys.Space
	ttl      time.Duration
	maxBytes int
	codec    Codec
	blobs    blobs
	closed   atomic.Bool
}

// NewSessions makes sessions on a client, which it never closes. Of the options
// it uses Namespace, TTL (of a whole session), MaxConfigBytes (of one value),
// Codec, Compression, Keys, RequireEncryption and the telemetry. No I/O. Errors wrap
// ErrInvalidOptions.
func NewSessions(client redis.UniversalClient, o Options) (*Sessions, error) {
	if client == nil {
		return nil, invalid("no client given to NewSessions; use Conn.Client")
	}
	if err := o.validateStore(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	space, err := keys.NewSpace(o.Namespace, "")
	if err != nil {
		return nil, invalid("Namespace: %w", err)
	}
	tel, err := o.telemetry()
	if err != nil {
		return nil, err
	}
	return &Sessions{client: client, space: space, ttl: o.TTL, maxBytes: o.MaxConfigBytes, codec: o.Codec, blobs: newBlobs(o, tel.Metrics.KeyUses)}, nil
}

// Close ends the sessions' use in this process: what is called afterwards
// returns ErrClosed. Nothing is removed and the client stays open. Closing
// twice is fine.
func (s *Sessions) Close() error {
	s.closed.Store(true)
	return nil
}

// Open gives the session of an execution without any I/O; it comes into being
// with its first value. The id is 1 to 1024 bytes of UTF-8; ExecutionID makes
// the one of a workflow's run. Errors: ErrInvalidKey, ErrClosed.
func (s *Sessions) Open(executionID string) (*Session, error) {
	if s.closed.Load() {
		return nil, failSession(opSessionOpen, ErrClosed)
	}
	if err := checkID("execution id", executionID); err != nil {
		return nil, failSession(opSessionOpen, err)
	}
	return &Session{of: s, key: s.space.Session(executionID), aad: keys.Escape(executionID) + ":"}, nil
}

// Session holds the values of one execution. It is only a name: nothing has to
// be closed, and any number of them may name the same session. It is safe for
// concurrent use; writers of the same name overwrite each other.
//
// The session lives for Options.TTL after its last write. A read extends that
// again once a quarter of it has passed; a session's life is never shortened.
// Writing again what was written is harmless, so a write that ended in
// ErrUnavailable, of which nobody knows whether it was executed, may be repeated.
//
// Every method may return errors wrapping ErrUnavailable, ErrDenied, ErrClosed,
// ErrWrongType, and the context's error when the caller gave up.
type Session struct {
	of  *Sessions
	key string
	aad string // what a value's id starts with; escaped, so the id is unambiguous
}

// Get reads one value. Errors: ErrNotFound, ErrInvalidKey, ErrCorrupt,
// ErrNewerFormat, ErrUnknownKey, ErrNotEncrypted, ErrTooLarge.
func (s *Session) Get(ctx context.Context, name string) (SessionValue, error) {
	if err := s.check(opSessionGet, name); err != nil {
		return SessionValue{}, err
	}
	var reply *redis.StringCmd
	err := s.read(ctx, func(p redis.Pipeliner) { reply = p.HGet(ctx, s.key, name) })
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return SessionValue{}, sessionError(ctx, opSessionGet, err)
	}
	v, err := s.open(name, reply.Val())
	if err != nil {
		return SessionValue{}, failSession(opSessionGet, err)
	}
	return v, nil
}

// All reads all values by their names. A session without values, which is one
// that does not exist, gives an empty map. Errors about single values (those of
// Get) are joined, and the map then holds the others.
func (s *Session) All(ctx context.Context) (map[string]SessionValue, error) {
	if err := s.check(opSessionAll); err != nil {
		return nil, err
	}
	var reply *redis.MapStringStringCmd
	err := s.read(ctx, func(p redis.Pipeliner) { reply = p.HGetAll(ctx, s.key) })
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return nil, sessionError(ctx, opSessionAll, err)
	}
	values := make(map[string]SessionValue, len(reply.Val()))
	var errs []error
	for name, raw := range reply.Val() {
		v, err := s.open(name, raw)
		if err != nil {
			errs = append(errs, failSession(opSessionAll, err))
			continue
		}
		values[name] = v
	}
	return values, errors.Join(errs...)
}

// Set writes one value. It is marshalled to JSON by the Codec; []byte and
// json.RawMessage are JSON already. Errors: ErrInvalidKey, ErrInvalidValue,
// ErrTooLarge.
func (s *Session) Set(ctx context.Context, name string, v any) error {
	return s.SetMany(ctx, map[string]any{name: v})
}

// SetMany writes several values at once: all of them or, with an error, none
// (with ErrUnavailable it is unknown which). See Set.
func (s *Session) SetMany(ctx context.Context, values map[string]any) error {
	names := slices.Sorted(maps.Keys(values))
	if err := s.check(opSessionSet, names...); err != nil {
		return err
	}
	var errs []error
	fields := make([]any, 0, 2*len(names))
	for i, name := range names {
		raw, err := s.seal(name, values[name])
		if err != nil {
			errs = append(errs, failSession(opSessionSet, fmt.Errorf("value %d of %d: %w", i+1, len(names), err)))
			continue
		}
		fields = append(fields, name, raw)
	}
	if err := errors.Join(errs...); err != nil || len(names) == 0 {
		return err
	}
	// GT alone would leave a new hash, which has no expiry yet, without one.
	cmds, err := s.of.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, s.key, fields...)
		s.extend(ctx, p, "nx")
		s.extend(ctx, p, "gt")
		return nil
	})
	return sessionError(ctx, opSessionSet, rediserr.Reason(err, cmds))
}

// Delete removes values. Names that are not there are none's concern, and how
// many were is not told: the client may have asked twice. Errors:
// ErrInvalidKey, told before anything is removed.
func (s *Session) Delete(ctx context.Context, names ...string) error {
	if err := s.check(opSessionDelete, names...); err != nil || len(names) == 0 {
		return err
	}
	return sessionError(ctx, opSessionDelete, s.of.client.HDel(ctx, s.key, names...).Err())
}

// Drop removes the whole session. A session that is not there is dropped
// already.
func (s *Session) Drop(ctx context.Context) error {
	if err := s.check(opSessionDrop); err != nil {
		return err
	}
	return sessionError(ctx, opSessionDrop, s.of.client.Del(ctx, s.key).Err())
}

// read sends a read together with the question how long the session still
// lives, and extends its life when a quarter of it has passed: so that is a
// write once in a while, whoever reads and however often. It returns only errors
// that concern Redis; the read's own reply is for the caller to look at.
func (s *Session) read(ctx context.Context, add func(redis.Pipeliner)) error {
	var left *redis.DurationCmd
	cmds, err := s.of.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		add(p)
		left = p.PTTL(ctx, s.key)
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return err
	}
	if d := left.Val(); left.Err() == nil && d > 0 && d < s.of.ttl-s.of.ttl/4 {
		_ = s.extend(ctx, s.of.client, "gt").Err() // the value is here; the next read asks again
	}
	return nil
}

// doer is a client or a pipeline.
type doer interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

func (s *Session) extend(ctx context.Context, by doer, condition string) *redis.Cmd {
	return by.Do(ctx, "pexpire", s.key, s.of.ttl.Milliseconds(), condition)
}

// check refuses what no command should be sent for.
func (s *Session) check(op string, names ...string) error {
	if s.of.closed.Load() {
		return failSession(op, ErrClosed)
	}
	var errs []error
	for _, name := range names {
		if err := checkID("value name", name); err != nil {
			errs = append(errs, failSession(op, err))
		}
	}
	return errors.Join(errs...)
}

// Names of operations and of the key family in errors.
const (
	opSessionOpen   = "redisstate: open session"
	opSessionGet    = "redisstate: get from session"
	opSessionAll    = "redisstate: get all of session"
	opSessionSet    = "redisstate: set in session"
	opSessionDelete = "redisstate: delete from session"
	opSessionDrop   = "redisstate: drop session"
	sessionFamily   = "session"
)

func failSession(op string, err error) error {
	return fmt.Errorf("%s (%s): %w", op, sessionFamily, err)
}

// sessionError turns the client's error into one of this package.
func sessionError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case rediserr.Classify(ctx, err) == rediserr.NotFound:
		return &MissingError{Op: op, Family: sessionFamily}
	case rediserr.IsWrongType(err):
		return failSession(op, ErrWrongType)
	}
	return rediserr.Wrap(ctx, op, sessionFamily, err)
}
