package locking

import (
	"context"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/trips"
)

// pipesAtOnce is how many pipelines go to one master at a time without sharing.
const pipesAtOnce = 2

// pipes sends pipelines to one master. Where many callers come at the same time,
// their pipelines travel together.
type pipes struct {
	client redis.UniversalClient
	again  bool                          // the client repeats what it had no answer to
	shared *trips.Trips[redis.Pipeliner] // nil: of a client that speaks to several servers, of which one would hold up the others
}

func newPipes(client redis.UniversalClient, log *slog.Logger) *pipes {
	p := &pipes{client: client}
	if single, ok := client.(*redis.Client); ok {
		p.again = single.Options().MaxRetries > 0
		p.shared = &trips.Trips[redis.Pipeliner]{
			Send: p.send, Size: func(redis.Pipeliner) int { return 1 }, AtOnce: pipesAtOnce,
			// What is given up must not reach Redis behind what takes it back.
			Stay: true,
			Op:   "locking: ask a master", Family: "lock", Log: log,
		}
	}
	return p
}

// exec sends a pipeline. Its commands have their own errors. If exec returns an error,
// none was sent, or it is not known what became of them: then they have none, and are
// not to be looked at.
func (p *pipes) exec(ctx context.Context, pipe redis.Pipeliner) error {
	if p.shared == nil {
		unrepeated(ctx, pipe, pipe.Cmds())
		_, _ = rediserr.Settle(pipe.Exec(ctx)) // each command has its own
		return nil
	}
	return p.shared.Do(ctx, pipe)
}

// send makes one trip. It is not sent again by the client: who was answered already
// would get another answer, a release that the lock is gone. Its callers ask again if
// they want to. A shared trip ends by itself, since it lives until the last of the
// callers' deadlines.
func (p *pipes) send(ctx context.Context, all []redis.Pipeliner) error {
	if len(all) == 1 && !p.again {
		_, _ = rediserr.Settle(all[0].Exec(ctx))
		return nil
	}
	if len(all) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opTimeout)
		defer cancel()
	}
	together := all[0]
	cmds := together.Cmds()
	for _, other := range all[1:] {
		cmds = append(cmds, other.Cmds()...)
	}
	unrepeated(ctx, together, cmds)
	_, _ = rediserr.Settle(together.Exec(ctx))
	return nil
}

// unrepeated makes a pipeline one of commands that the client sends once. (A Cluster's
// goes where MOVED and ASK send it all the same, and elsewhere if no connection is to be
// had.)
func unrepeated(ctx context.Context, pipe redis.Pipeliner, cmds []redis.Cmder) {
	pipe.Discard()
	if len(cmds) > 0 {
		_ = pipe.Process(ctx, once{cmds[0]}) // appends it
		_ = pipe.BatchProcess(ctx, cmds[1:]...)
	}
}

// once is a command that keeps its pipeline from being sent again by the client.
type once struct{ redis.Cmder }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// close waits for what is under way. Nobody uses the pipes any more.
func (p *pipes) close() {
	if p.shared != nil {
		p.shared.Close()
		p.shared.Wait()
	}
}
