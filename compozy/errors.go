package compozy

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/compozy/temporal-redis/redisstate"
)

// ErrNotFound says that there is no config under the task execution id, or no
// metadata under the key: it was never saved, was deleted or expired. The text
// of the error that wraps it is Compozy's.
var ErrNotFound = errors.New("not found")

// Texts of Compozy's for what it refuses; errors.Is finds redisstate's
// sentinels.
var (
	errNoTaskExecID = &refused{"taskExecID cannot be empty", redisstate.ErrInvalidKey}
	errNoKey        = &refused{"key cannot be empty", redisstate.ErrInvalidKey}
	errNilConfig    = &refused{"config cannot be nil", redisstate.ErrInvalidValue}
	errNilData      = &refused{"data cannot be nil", redisstate.ErrInvalidValue}
)

// refused has a text of Compozy's and the meaning of a sentinel.
type refused struct {
	text string
	as   error
}

func (e *refused) Error() string { return e.text }
func (e *refused) Unwrap() error { return e.as }

// notFound has the whole text that Compozy's callers look for.
type notFound struct {
	text  string
	cause error
}

func (e *notFound) Error() string   { return e.text }
func (e *notFound) Unwrap() []error { return []error{ErrNotFound, e.cause} }

// mismatch leaves the cause's text out, which may repeat values.
type mismatch struct {
	into  reflect.Type
	cause error
}

func undecodable[T any](cause error) error { return &mismatch{reflect.TypeFor[T](), cause} }

func (e *mismatch) Error() string   { return fmt.Sprintf("%v: it does not decode into %v", redisstate.ErrCorrupt, e.into) }
func (e *mismatch) Unwrap() []error { return []error{redisstate.ErrCorrupt, e.cause} }

// maxShown is more than any id that a store takes.
const maxShown = 1024

// shown is an id as it is, as Compozy shows it, unless that would break the line.
func shown(id string) string {
	if len(id) > maxShown {
		return strconv.Itoa(len(id)) + " bytes long"
	}
	for _, r := range id {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(id)
		}
	}
	return id
}
