package redisstate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/compozy/temporal-redis/internal/keys"
)

type sessionKey struct{}

// NewSessionContext returns a context that carries the session of the running
// execution.
func NewSessionContext(ctx context.Context, session *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, session)
}

// SessionFromContext returns the session that NewSessionContext put into ctx.
func SessionFromContext(ctx context.Context) (*Session, bool) {
	session, ok := ctx.Value(sessionKey{}).(*Session)
	return session, ok
}

// ExecutionID is the id, for Sessions.Open, of one run of a workflow. Two runs
// never share it: what an earlier run of the same workflow id left half-done (a
// reset, a continue-as-new, an id used again) is not the next one's. The run id
// alone would tell them apart; the workflow id stands in front for people who
// look at keys. Each is escaped, and the whole is hashed when it is too long.
func ExecutionID(workflowID, runID string) string {
	id := keys.Escape(workflowID) + "/" + keys.Escape(runID)
	if len(id) > keys.MaxIDBytes {
		sum := sha256.Sum256([]byte(id))
		return "sha256/" + hex.EncodeToString(sum[:])
	}
	return id
}
