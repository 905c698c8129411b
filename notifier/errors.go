package notifier

import (
	"errors"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

var (
	// ErrInvalidEvent is wrapped by Publish's errors about the event.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrInvalidOptions is wrapped by the errors of NewPublisher, NewSubscriber
	// and Subscribe about their arguments.
	ErrInvalidOptions = errors.New("invalid options")
	// ErrUnavailable marks an outage of Redis.
	ErrUnavailable = rediserr.ErrUnavailable
	// ErrDenied marks a wrong password or a missing ACL permission.
	ErrDenied = rediserr.ErrDenied
	// ErrClosed marks the use of a publisher or subscriber after its Close.
	ErrClosed = rediserr.ErrClosed
)

// family is the key family in errors and logs.
const family = "events"
