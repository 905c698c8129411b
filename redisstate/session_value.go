package redisstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// SessionValue is a value that was read from a session. It belongs to its
// reader: nothing in it is shared, unlike a Config. The zero value holds
// nothing.
type SessionValue struct {
	json  []byte
	codec Codec
}

// JSON returns a copy of the value's JSON; nil for the zero SessionValue.
func (v SessionValue) JSON() json.RawMessage { return slices.Clone(v.json) }

// DecodeSession decodes v into a T of the caller's own. The error wraps
// ErrCorrupt when the value is not a T, and ErrNotFound for the zero
// SessionValue; its text holds no values.
func DecodeSession[T any](v SessionValue) (T, error) {
	var into T
	if v.json == nil {
		return into, &MissingError{Op: opSessionGet, Family: sessionFamily}
	}
	if err := v.codec.Unmarshal(v.json, &into); err != nil {
		var none T
		return none, failSession(opSessionGet, notOfType[T](err))
	}
	return into, nil
}

// SessionGet reads one value and decodes it. Errors: those of Session.Get and
// DecodeSession.
func SessionGet[T any](ctx context.Context, s *Session, name string) (T, error) {
	v, err := s.Get(ctx, name)
	if err != nil {
		var none T
		return none, err
	}
	return DecodeSession[T](v)
}

// seal makes the stored bytes of a value.
func (s *Session) seal(name string, v any) ([]byte, error) {
	text, err := encodeValue(s.of.codec, v)
	if known, ok := errors.AsType[*codecError](err); ok {
		return nil, &reworded{fmt.Sprintf("%v: %s", known.sentinel, known.detail), known.Unwrap()}
	}
	if err != nil {
		return nil, err
	}
	if len(text) > s.of.maxBytes {
		return nil, fmt.Errorf("%w: %d bytes of JSON; split it, or raise Options.MaxConfigBytes (%d)", ErrTooLarge, len(text), s.of.maxBytes)
	}
	return s.of.blobs.encode(sessionFamily, s.id(name), text)
}

// open is the inverse of seal.
func (s *Session) open(name, raw string) (SessionValue, error) {
	text, err := s.of.blobs.decode(sessionFamily, s.id(name), []byte(raw))
	if err != nil {
		return SessionValue{}, err
	}
	return SessionValue{json: text, codec: s.of.codec}, nil
}

// id is what a stored value is bound to: no other value of any session has it.
func (s *Session) id(name string) string { return s.aad + name }

// reworded has a text of its own where that of its causes would repeat values,
// or the operation.
type reworded struct {
	text string
	as   []error
}

func (e *reworded) Error() string   { return e.text }
func (e *reworded) Unwrap() []error { return e.as }

// notOfType leaves the cause's text out, which may repeat values.
func notOfType[T any](cause error) error {
	return &reworded{fmt.Sprintf("%v: it does not decode into %v", ErrCorrupt, reflect.TypeFor[T]()), []error{ErrCorrupt, cause}}
}
