package redisstate

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// mended are the clients of hosts that carry dialHook already.
var mended sync.Map // weak pointer -> struct{}

// mendDial adds dialHook to a client over sentinels, once. It changes nothing
// but what a failed dial is called.
func mendDial(client redis.UniversalClient) {
	if c, single := client.(*redis.Client); single && kindOf(c) == sentinel {
		once(&mended, c, func() { c.AddHook(dialHook{}) })
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
