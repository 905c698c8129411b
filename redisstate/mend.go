package redisstate

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// mended are the clients that carry our hooks of this file already.
var mended sync.Map // weak pointer -> struct{}

// mend adds what go-redis lacks when servers change, once for each client, also
// to a host's own. It neither sends commands nor changes what they return, but
// for the one error that would be a lie.
func mend(client redis.UniversalClient) {
	switch c := client.(type) {
	case *redis.Client:
		if kindOf(c) == sentinel {
			once(&mended, c, func() { c.AddHook(dialHook{}) })
		}
	case *redis.ClusterClient:
		once(&mended, c, func() { c.AddHook(slotsHook{c.ReloadState}) })
	}
}

// slotsHook asks a Cluster again who has which slot when a node cannot be
// reached. go-redis does so when a node redirects it, which a node that is gone
// never does, and else once in a minute: so long, pipelines went to the dead
// master although its replica had taken over.
type slotsHook struct {
	reload func(context.Context) // returns at once; at most five times a second
}

// DialHook passes dialing through.
func (slotsHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook looks at the outcome of commands.
func (h slotsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		h.look(ctx, err)
		return err
	}
}

// ProcessPipelineHook looks at the outcome of pipelines.
func (h slotsHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err == nil {
			return nil
		}
		h.look(ctx, err)
		for _, cmd := range cmds { // of several nodes one may be gone
			h.look(ctx, cmd.Err())
		}
		return err
	}
}

func (h slotsHook) look(ctx context.Context, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return
	}
	if _, answered := errors.AsType[redis.Error](err); !answered {
		h.reload(ctx)
	}
}

// dialHook keeps redis.Nil out of failed dials. Sentinels that know no master
// of the name answer with it, go-redis passes it on as the error of the
// command that needed the connection, and there it means that a key is
// missing: a Get would find nothing, and a pipeline would be taken for done.
type dialHook struct{}

// DialHook makes a failed search for the master an outage.
func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		return conn, unlessNil(err)
	}
}

// ProcessHook passes commands through.
func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook passes pipelines through.
func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// errNoMaster begins as go-redis' own errors do, which are outages.
var errNoMaster = errors.New("redis: the sentinels know no master of that name; check it in REDIS_URL or REDIS_SENTINEL_MASTER")

func unlessNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return errNoMaster
	}
	return err
}
