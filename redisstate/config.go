package redisstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Entry is a config to save.
type Entry struct {
	// ID is the config's id, see Key. An id belongs to whoever saved it last: where
	// workflows have a config each, their ids are in it ("order-17/charge").
	ID string
	// Workflow is the id of the workflow that the config belongs to, under which
	// Scan lists it, and with which ExtendWorkflow and DeleteWorkflow treat it.
	// Saving an id for another workflow, or for none, takes it from the one that
	// had it, also if the content is the same. Defaults to none.
	Workflow string
	// Value is marshalled to JSON; []byte and json.RawMessage are taken as JSON
	// already. It must not be nil, nor a pointer that is.
	Value any
	// TTL is the time to live, in whole milliseconds. Defaults to Options.TTL.
	TTL time.Duration
}

// Config is a config that was read. It is small, may be copied, and is safe for
// concurrent use. The zero value holds nothing; see IsZero.
type Config struct {
	// Ref names exactly this content.
	Ref Ref
	// Workflow is the workflow that it was saved for; may be empty.
	Workflow string

	content *content
}

// NewConfig makes a Config of a value without a store, for implementations of
// ConfigStore and for tests. Errors: ErrInvalidKey, ErrInvalidValue.
func NewConfig(id, workflow string, v any) (Config, error) {
	if err := errors.Join(checkID("config id", id), checkWorkflow(workflow)); err != nil {
		return Config{}, fmt.Errorf("redisstate: new config: %w", err)
	}
	text, err := encodeValue(stdCodec{}, v)
	if err != nil {
		return Config{}, fmt.Errorf("redisstate: new config: %w", err)
	}
	c, _ := newContentOf(text, stdCodec{})
	return Config{Ref: Ref{ID: id, Digest: c.digest}, Workflow: workflow, content: c}, nil
}

// IsZero tells whether c holds no content.
func (c Config) IsZero() bool { return c.content == nil }

// JSON returns a copy of the canonical JSON; nil for the zero Config.
func (c Config) JSON() json.RawMessage {
	if c.content == nil {
		return nil
	}
	return slices.Clone(c.content.json)
}

// Size is the length of the canonical JSON in bytes.
func (c Config) Size() int {
	if c.content == nil {
		return 0
	}
	return len(c.content.json)
}

// Unmarshal decodes the config into v, a pointer, by the Codec of the store that it
// was read from: what it makes is the caller's own and may be changed. The error
// wraps ErrCorrupt when the content does not fit v, which may be filled in part then,
// ErrInvalidValue when v is no pointer, and ErrNotFound for the zero Config; its text
// holds no values.
func (c Config) Unmarshal(v any) error {
	if c.content == nil {
		return fmt.Errorf("redisstate: decode (config): %w", ErrNotFound)
	}
	if to := reflect.ValueOf(v); to.Kind() != reflect.Pointer || to.IsNil() {
		return fmt.Errorf("redisstate: decode (config): %w: there is no room in a %T; give it a pointer", ErrInvalidValue, v)
	}
	if err := c.content.codec.Unmarshal(c.content.json, v); err != nil {
		return decodeError(v, err)
	}
	return nil
}

// Decode returns the config decoded into T. A content is decoded once per type
// and shared by everyone who reads it while it is in the near cache, so treat the
// result as read-only. The error wraps ErrCorrupt when the content is not a T, and
// ErrNotFound for the zero Config; its text holds no values.
func Decode[T any](c Config) (*T, error) {
	if c.content == nil {
		return nil, fmt.Errorf("redisstate: decode (config): %w", ErrNotFound)
	}
	if v, ok := find[T](c.content); ok {
		return v, nil
	}
	return decodeContent[T](c.content)
}
