package redisstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// Codec turns values into JSON and back. It must be safe for concurrent use,
// and what it marshals must be valid JSON; the canonical form is made here, so
// another Codec gives the same digests.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// stdCodec is encoding/json.
type stdCodec struct{}

func (stdCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (stdCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// codecError is a failure of a Codec. Its text leaves the cause's out, which
// may repeat values; errors.As still finds the cause.
type codecError struct {
	op       string
	sentinel error
	detail   string
	cause    error
}

func (e *codecError) Error() string {
	return fmt.Sprintf("redisstate: %s (config): %v: %s", e.op, e.sentinel, e.detail)
}

func (e *codecError) Unwrap() []error { return []error{e.sentinel, e.cause} }

func marshalError(v any, cause error) error {
	return &codecError{"encode", ErrInvalidValue, fmt.Sprintf("%T cannot be marshalled to JSON", v), cause}
}

func decodeError[T any](cause error) error {
	detail := "it does not decode into " + reflect.TypeFor[T]().String()
	var wrong *json.UnmarshalTypeError
	if errors.As(cause, &wrong) && wrong.Field != "" {
		detail += fmt.Sprintf(": field %s needs a %s", wrong.Field, wrong.Type)
	}
	return &codecError{"decode", ErrCorrupt, detail, cause}
}

// marshalRoom keeps buffers that texts are in until their canonical form was
// made from them.
var marshalRoom = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// putRoom gives a buffer back, unless one large value has blown it up.
func putRoom(room *bytes.Buffer) {
	if room.Cap() <= 256<<10 {
		marshalRoom.Put(room)
	}
}

// marshalInto is json.Marshal without a copy, and without escapes that the
// canonical form would only take out again.
func marshalInto(room *bytes.Buffer, v any) ([]byte, error) {
	encoder := json.NewEncoder(room)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return room.Bytes(), err
}

// encodeValue gives the canonical JSON of an entry's value. []byte and
// json.RawMessage are JSON already.
func encodeValue(codec Codec, v any) ([]byte, error) {
	var (
		text    []byte
		checked bool
		err     error
	)
	switch raw := v.(type) {
	case nil:
		return nil, fmt.Errorf("%w: it is nil; give it a value", ErrInvalidValue)
	case []byte:
		text = raw
	case json.RawMessage:
		text = raw
	default:
		if _, checked = codec.(stdCodec); checked { // it makes valid JSON
			room, _ := marshalRoom.Get().(*bytes.Buffer)
			defer putRoom(room)
			room.Reset()
			text, err = marshalInto(room, v)
		} else {
			text, err = codec.Marshal(v)
		}
		if err != nil {
			return nil, marshalError(v, err)
		}
	}
	text, err = canonical(text, checked)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidValue, err)
	}
	return text, nil
}
