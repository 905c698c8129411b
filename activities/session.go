package activities

import (
	"context"
	"errors"

	"github.com/compozy/temporal-redis/redisstate"
)

// ErrNoSession says that the activity belongs to no workflow, or that its worker
// is closing.
var ErrNoSession = errors.New("the activity has no session; only activities of a workflow have one")

// Session returns the session of the running workflow execution: typed values
// that its activities share and that stay out of Temporal's history. It belongs
// to one run (workflow id and run id), so that a reset, a continue-as-new or an
// id that is used again begins with an empty one; the attempts of a retried
// activity share it. Values go by redisstate.SessionGet, Session.Set and so on.
// Errors: ErrNoSession, ErrNoPlugin.
func Session(ctx context.Context) (*redisstate.Session, error) {
	if session, ok := redisstate.SessionFromContext(ctx); ok {
		return session, nil
	}
	if _, ok := redisstate.StoreFromContext(ctx); !ok {
		return nil, noPlugin(ctx, "session")
	}
	return nil, misuse("session", ErrNoSession)
}
