package compozy

import (
	"errors"
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
	errNoTaskExecID = &refusedError{"taskExecID cannot be empty", redisstate.ErrInvalidKey}
	errNoKey        = &refusedError{"key cannot be empty", redisstate.ErrInvalidKey}
	errNilConfig    = &refusedError{"config cannot be nil", redisstate.ErrInvalidValue}
	errNilData      = &refusedError{"data cannot be nil", redisstate.ErrInvalidValue}
)

// refusedError has a text of Compozy's and the meaning of a sentinel.
type refusedError struct {
	text string
	as   error
}

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return e.as }

// notFoundError has the whole text that Compozy's callers look for.
type notFoundError struct {
	text  string
	cause error
}

func (e *notFoundError) Error() string   { return e.text }
func (e *notFoundError) Unwrap() []error { return []error{ErrNotFound, e.cause} }

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
