package testsuite

import (
	"crypto/rand"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/temporal-redis/internal/embeddedtime"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// ownRedis is the Redis of one environment: in this process, behind a random
// password, and behind a proxy that can cut it off.
type ownRedis struct {
	server   *miniredis.Miniredis
	proxy    *faultproxy.Proxy
	password string
}

// startRedis starts one; it ends with the test.
func startRedis(t testing.TB) *ownRedis {
	t.Helper()
	r := &ownRedis{server: miniredis.NewMiniRedis(), password: rand.Text()}
	r.server.RequireAuth(r.password)
	if err := r.server.Start(); err != nil {
		t.Fatalf("testsuite: start Redis: %v", err)
	}
	t.Cleanup(r.server.Close)
	embeddedtime.Pass(r.server)
	r.proxy = faultproxy.Start(t, r.server.Addr())
	return r
}

func (r *ownRedis) url() string { return "redis://:" + r.password + "@" + r.proxy.Addr() }

// stop ends each connection at its next command.
func (r *ownRedis) stop() { r.proxy.Random(1, faultproxy.Chaos{ResetCommand: 1}) }

func (r *ownRedis) start() error { return r.proxy.Heal() }
