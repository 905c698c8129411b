package notifier

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// through is a client whose connections go through the proxy.
func through(t *testing.T, proxy *faultproxy.Proxy, change func(*redis.Options)) *redis.Client {
	t.Helper()
	o := &redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1}
	if change != nil {
		change(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}
