package interceptors

import (
	"context"

	"github.com/compozy/temporal-redis/redisstate"
)

// withSession puts the session of the call's run into the context. Standalone
// activities have none.
func (c *call) withSession(ctx context.Context) context.Context {
	run := c.info.WorkflowExecution
	if c.res.Sessions == nil || run.ID == "" {
		return ctx
	}
	session, err := c.res.Sessions.Open(redisstate.ExecutionID(run.ID, run.RunID))
	if err != nil {
		return ctx // closed: what uses Redis will say so
	}
	return redisstate.NewSessionContext(ctx, session)
}
