package redisstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Codec turns values into JSON and back. It must be safe for concurrent use,
// and what it marshals must be valid JSON; the canonical form is made here, so
// another Codec gives the same digests.
type Codec interface {
	// Marshal gives the JSON of a value.
	Marshal(v any) ([]byte, error)
	// Unmarshal reads JSON into v. It must not change data or keep it: readers of
	// the same content share it.
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

// decodeError is a failure to decode into what v points to.
func decodeError(v any, cause error) error {
	detail := "it does not decode into " + strings.TrimPrefix(fmt.Sprintf("%T", v), "*")
	var wrong *json.UnmarshalTypeError
	if errors.As(cause, &wrong) && wrong.Type != nil {
		switch name := fieldIn(reflect.TypeOf(v), wrong.Field); name {
		case "":
		case wrong.Field:
			detail += fmt.Sprintf(": field %s needs a %s", name, wrong.Type)
		default:
			detail += fmt.Sprintf(": something in field %s needs to be a %s", name, wrong.Type)
		}
	}
	return &codecError{"decode", ErrCorrupt, detail, cause}
}

// fieldIn is as much of a path of names as are fields of a struct: the rest may be
// keys of a map, which are the content's and not the type's. (A name with a dot in it
// is none that we know.)
func fieldIn(t reflect.Type, path string) string {
	var known []string
	for name := range strings.SplitSeq(path, ".") {
		if t = structIn(t); t == nil {
			break
		}
		fields := reflect.VisibleFields(t)
		at := slices.IndexFunc(fields, func(f reflect.StructField) bool {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return name == tag || name == f.Name
		})
		if at < 0 {
			break
		}
		known, t = append(known, name), fields[at].Type
	}
	return strings.Join(known, ".")
}

// structIn is the struct that a type holds, or nil: a type may hold itself.
func structIn(t reflect.Type) reflect.Type {
	const deep = 16
	for range deep {
		switch {
		case t == nil:
			return nil
		case t.Kind() == reflect.Struct:
			return t
		case t.Kind() != reflect.Pointer && t.Kind() != reflect.Slice && t.Kind() != reflect.Array && t.Kind() != reflect.Map:
			return nil
		}
		t = t.Elem()
	}
	return nil
}

// room is where a value is on its way to its canonical form.
type room struct {
	text      bytes.Buffer
	encoder   *json.Encoder // into text
	canonical canonicalizer
}

// maxRoom bounds the buffers that rooms keep, in bytes: one large value must not
// blow them up for good.
const maxRoom = 256 << 10

var rooms = sync.Pool{New: func() any {
	r := new(room)
	r.encoder = json.NewEncoder(&r.text)
	r.encoder.SetEscapeHTML(false) // the canonical form would only take it out again
	return r
}}

func (r *room) giveBack() {
	if r.text.Cap() <= maxRoom && cap(r.canonical.written) <= maxRoom {
		rooms.Put(r)
	}
}

// marshal is json.Marshal into the room, where the text stays until it is
// given back.
func (r *room) marshal(v any) ([]byte, error) {
	r.text.Reset()
	err := r.encoder.Encode(v)
	return r.text.Bytes(), err
}

// encodeValue gives the canonical JSON of an entry's value. []byte and
// json.RawMessage are JSON already.
func encodeValue(codec Codec, v any) ([]byte, error) { return appendValue(nil, codec, v) }

// appendValue gives lead and behind it the canonical JSON of an entry's value,
// in a buffer of its own.
func appendValue(lead []byte, codec Codec, v any) ([]byte, error) {
	var (
		text    []byte
		checked bool
		taken   string // how v was, where that may surprise
		err     error
	)
	r, _ := rooms.Get().(*room)
	defer r.giveBack()
	switch raw := v.(type) {
	case nil:
		return nil, fmt.Errorf("%w: it is nil; give it a value", ErrInvalidValue)
	case []byte:
		text, taken = raw, "; a []byte is taken as JSON already"
	case json.RawMessage:
		text = raw
	default:
		if _, checked = codec.(stdCodec); checked { // it makes valid JSON
			text, err = r.marshal(v)
		} else {
			text, err = codec.Marshal(v)
		}
		if err != nil {
			return nil, marshalError(v, err)
		}
	}
	out, err := r.canonical.append(lead, text, checked)
	if err != nil {
		return nil, fmt.Errorf("%w: %w%s", ErrInvalidValue, err, taken)
	}
	return out, nil
}
