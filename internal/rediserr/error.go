package rediserr

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The sentinels that redisstate, locking and notifier export under their own
// names; errors.Is therefore works across packages.
var (
	// ErrUnavailable marks an outage, see Unavailable.
	ErrUnavailable = errors.New("redis is unavailable")
	// ErrDenied marks an authentication or permission failure, see Denied.
	ErrDenied = errors.New("redis refused access")
	// ErrClosed marks the use of something after its Close.
	ErrClosed = errors.New("closed")
)

// Error says which operation failed on which key family, and why. It wraps the
// sentinel of its class and its cause.
type Error struct {
	Op     string // operation in the caller's words, for example "redisstate: get"
	Family string // key family: "config", "lock", "events", ...
	Class  Class  // what the error means
	Err    error  // cause as go-redis gave it
}

// Error names operation, key family and cause; never a key, value or secret.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (%s): %s: %s", e.Op, e.Family, e.reason(), Text(e.Err))
}

func (e *Error) reason() string {
	switch e.Class {
	case Unavailable:
		return ErrUnavailable.Error()
	case Denied:
		return ErrDenied.Error() + "; check username, password, ACL rules and TLS settings"
	case Closed:
		return "the Redis client is closed"
	case Canceled:
		return "the caller gave up"
	default:
		return "redis refused the command"
	}
}

// Text is the text of an error from Redis or its client on one line, without
// the arguments and replies that some of them repeat.
func Text(err error) string {
	text := err.Error()
	if command, _, repeats := strings.Cut(text, ", with args beginning with"); repeats {
		text = command
	}
	for _, unreadable := range []string{"redis: can't parse", "redis: can't read", "redis: can't marshal", "redis: invalid reply"} {
		if i := strings.Index(text, unreadable); i >= 0 {
			text = text[:i+len(unreadable)]
		}
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

// Unwrap gives the cause to errors.Is and errors.As. It gives none to errors.Unwrap, by
// which Temporal records the text of each cause: that of Redis may repeat what it was sent.
func (e *Error) Unwrap() []error { return []error{e.Err} }

// Is reports whether target is the sentinel of e's class.
func (e *Error) Is(target error) bool {
	switch e.Class {
	case Unavailable:
		return target == ErrUnavailable
	case Denied:
		return target == ErrDenied
	case Closed:
		return target == ErrClosed
	}
	return false
}

// Wrap classifies err and says where it happened. It returns nil for nil, and
// redis.Nil as it is, for the caller to turn into its own "not found". An error
// that is already an *Error keeps its class.
func Wrap(ctx context.Context, op, family string, err error) error {
	class := Classify(ctx, err)
	switch class {
	case OK:
		return nil
	case NotFound:
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Op: op, Family: family, Class: class, Err: err}
}
