package rediserr

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/redis/go-redis/v9"
)

// Class is what an error from Redis means for the caller.
type Class int

const (
	// OK is no error.
	OK Class = iota
	// NotFound is redis.Nil: the key is not there.
	NotFound
	// Unavailable is an outage: Redis cannot serve this operation for a reason
	// that passes (no connection, time-out, loading, fail-over, out of memory,
	// too many clients). Whether the operation was executed is unknown.
	Unavailable
	// Denied is a wrong password, a missing ACL permission or a refused TLS
	// handshake: it passes only when an operator acts.
	Denied
	// Canceled is the caller's own context ending.
	Canceled
	// Closed is the use of a client after its Close.
	Closed
	// Permanent is a request that Redis will refuse again: wrong type, syntax,
	// unknown command, keys in different slots.
	Permanent
)

// String names the class for logs and metric labels.
func (c Class) String() string {
	switch c {
	case OK:
		return "ok"
	case NotFound:
		return "not_found"
	case Unavailable:
		return "unavailable"
	case Denied:
		return "denied"
	case Canceled:
		return "canceled"
	case Closed:
		return "closed"
	case Permanent:
		return "permanent"
	}
	return "unknown"
}

// Classify decides what err means. ctx is the context the operation ran under:
// a deadline of the caller counts as Canceled, a time-out inside the client as
// Unavailable.
func Classify(ctx context.Context, err error) Class {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, redis.Nil):
		return NotFound
	case errors.Is(err, redis.ErrClosed):
		return Closed
	case ctx != nil && ctx.Err() != nil && isContext(err):
		return Canceled
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return classifyReply(err, reply.Error())
	}
	if isDenied(err) {
		return Denied
	}
	return classifyPlain(err)
}

// classifyPlain decides about errors that no server said. They come from the
// connection: dial, read, write, pool.
func classifyPlain(err error) Class {
	var netErr net.Error
	switch {
	case errors.As(err, &netErr),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed),
		errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return classifyClient(err.Error())
}

func isContext(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		(errors.As(err, &netErr) && netErr.Timeout())
}
