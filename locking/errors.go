package locking

import (
	"errors"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// What the package's errors are, for errors.Is. An error that comes from Redis
// is a *rediserr.Error underneath and keeps its cause.
var (
	// ErrNotAcquired is returned by Acquire when the resource stayed held by
	// another for the whole time that the caller was willing to wait, and by
	// AcquireAll also when one lease was lost while it waited for others. Trying
	// again later is the right answer.
	ErrNotAcquired = errors.New("lock not acquired")
	// ErrLost is the cause with which a lease's context ends when the lease
	// ended before its release. Work done under it may meet another holder.
	ErrLost = errors.New("lease lost")
	// ErrNotHeld is returned by Release and Renew when the lease had been lost.
	ErrNotHeld = errors.New("lease not held")
	// ErrReentrant is returned by Acquire when its context carries a lease of the
	// same resource (NewContext): waiting for it would be waiting for oneself.
	ErrReentrant = errors.New("the caller holds this lease already")
	// ErrUnavailable marks an outage of Redis.
	ErrUnavailable = rediserr.ErrUnavailable
	// ErrDenied marks a wrong password, a missing ACL permission or a refused
	// TLS handshake; an operator has to act.
	ErrDenied = rediserr.ErrDenied
	// ErrInvalidOptions is wrapped by every complaint about Options or an
	// Option.
	ErrInvalidOptions = errors.New("invalid options")
	// ErrInvalidResource is wrapped when a resource name cannot become a key.
	ErrInvalidResource = errors.New("invalid resource")
	// ErrClosed is returned once the Manager was closed.
	ErrClosed = rediserr.ErrClosed
)
