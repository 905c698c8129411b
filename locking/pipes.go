package locking

import (
	"context"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/trips"
)

// pipesAtOnce is how many pipelines go to one master at a time without sharing.
const pipesAtOnce = 2

// pipes sends pipelines to one master. Where many callers come at the same time,
// their pipelines travel together.
type pipes struct {
	shared *trips.Trips[redis.Pipeliner] // nil: a Cluster, where one node would hold up the others
}

func newPipes(client redis.UniversalClient, log *slog.Logger) *pipes {
	if _, ok := client.(*redis.ClusterClient); ok {
		return &pipes{}
	}
	return &pipes{shared: &trips.Trips[redis.Pipeliner]{
		Send: sendTogether, Size: func(redis.Pipeliner) int { return 1 }, AtOnce: pipesAtOnce,
		Op: "locking: ask a master", Family: "lock", Log: log,
	}}
}

// exec sends a pipeline. Its commands have their own errors. If exec returns an error
// they must not be looked at: ctx has ended or the pipes were closed, and the commands
// may still be under way.
func (p *pipes) exec(ctx context.Context, pipe redis.Pipeliner) error {
	if p.shared == nil {
		_, _ = pipe.Exec(ctx)
		return nil
	}
	return p.shared.Do(ctx, pipe)
}

func sendTogether(ctx context.Context, all []redis.Pipeliner) error {
	first := all[0]
	for _, other := range all[1:] {
		for _, cmd := range other.Cmds() {
			_ = first.Process(ctx, cmd) // appends it
		}
	}
	_, _ = first.Exec(ctx)
	return nil
}

// close waits for what is under way. Nobody uses the pipes any more.
func (p *pipes) close() {
	if p.shared != nil {
		p.shared.Close()
		p.shared.Wait()
	}
}
