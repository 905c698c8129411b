package redisstate

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"sync"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/temporal-redis/internal/embeddedtime"
)

// embeddedServers are the running embedded servers by name. Connections of one
// process that give the same name share data; the last one to close ends the
// server and its data.
var embeddedServers = struct {
	sync.Mutex
	byName map[string]*embeddedServer
}{byName: make(map[string]*embeddedServer)}

// embeddedServer is an in-process Redis on a loopback port of its own, behind a
// random password so that only this process gets in.
type embeddedServer struct {
	name     string
	redis    *miniredis.Miniredis
	password string
	users    int // guarded by embeddedServers
}

// acquireEmbedded starts the named server or joins it.
func acquireEmbedded(ctx context.Context, name string) (*embeddedServer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisstate: connect: %w", err)
	}
	embeddedServers.Lock()
	defer embeddedServers.Unlock()
	if server, running := embeddedServers.byName[name]; running {
		server.users++
		return server, nil
	}
	server := &embeddedServer{name: name, redis: miniredis.NewMiniRedis(), password: rand.Text(), users: 1}
	server.redis.RequireAuth(server.password)
	if err := server.redis.StartAddr(net.JoinHostPort("127.0.0.1", "0")); err != nil {
		return nil, fmt.Errorf("redisstate: start embedded Redis: %w", err)
	}
	embeddedtime.Pass(server.redis)
	embeddedServers.byName[name] = server
	return server, nil
}

// target is how the client reaches the server.
func (s *embeddedServer) target(t target) target {
	return target{kind: standalone, addrs: []string{s.redis.Addr()}, password: s.password, db: t.db, params: t.params}
}

// release gives up one use; the last one stops the server and waits for it.
func (s *embeddedServer) release() {
	embeddedServers.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(embeddedServers.byName, s.name)
	}
	embeddedServers.Unlock()
	if last {
		s.redis.Close()
	}
}
