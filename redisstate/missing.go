package redisstate

import (
	"errors"
	"strings"
)

// Errors of Source, for errors.Is.
var (
	// ErrSourceMismatch says that Options.Source was asked for the content that a
	// ref names and gave other content for its id. It comes in a MissingError:
	// the content of the ref is nowhere.
	ErrSourceMismatch = errors.New("Options.Source has other content for this id than the ref names")
	// ErrSourceFailed says that a config is not in Redis and that Options.Source
	// could not tell what it is. Trying again may help.
	ErrSourceFailed = errors.New("the config is not in Redis and Options.Source failed to load it")
)

// MissingError is an ErrNotFound that says what can be done about it.
type MissingError struct {
	// Op is the operation, for example "redisstate: get".
	Op string
	// Family is the key family: "config", "metadata" or "session".
	Family string
	// Err is what Options.Source said: its own error wrapping ErrNotFound, or
	// ErrSourceMismatch. It is nil if no Source was asked.
	Err error
}

// Error names the operation, the key family and the remedy.
func (e *MissingError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op + " (" + e.Family + "): " + ErrNotFound.Error() + "; ")
	switch {
	case e.Family != family:
		b.WriteString("save it again, or give it a longer time to live (Options.TTL)")
	case e.Err == nil:
		b.WriteString("save it again, set Options.Source to regenerate it, or raise Options.TTL")
	case errors.Is(e.Err, ErrSourceMismatch):
		b.WriteString(ErrSourceMismatch.Error() + ": use the ref of the new content, make Source keep earlier content, or raise Options.TTL")
	default:
		b.WriteString("Options.Source does not have it either: save it again, or raise Options.TTL")
	}
	return b.String()
}

// Is reports true for ErrNotFound.
func (e *MissingError) Is(target error) bool { return target == ErrNotFound }

// Unwrap gives what Options.Source said.
func (e *MissingError) Unwrap() error { return e.Err }
