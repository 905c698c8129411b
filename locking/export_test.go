package locking

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Broken returns a Manager whose masters break a promise on purpose, for tests
// that must notice.
func Broken(client redis.UniversalClient, opts Options, how string) (*Manager, error) {
	m, err := New(client, opts)
	if err == nil {
		m.masters = broken{masters: m.masters, how: how}
	}
	return m, err
}

// Ways of Broken.
const (
	GrantsHeld    = "a held lock is granted again"
	RepeatsFences = "all grants have one fence"
	ForgetsToEnd  = "a lease does not end itself"
)

type broken struct {
	masters
	how string
}

func (b broken) obtain(ctx context.Context, k lockKeys, token string, ttl time.Duration) (*grant, error) {
	if b.how == GrantsHeld {
		k.lock += token
	}
	g, err := b.masters.obtain(ctx, k, token, ttl)
	if err == nil && b.how == RepeatsFences {
		g.fence = 1
	}
	return g, err
}

func (b broken) extend(ctx context.Context, g *grant, ttl time.Duration) error {
	if b.how == ForgetsToEnd {
		return nil // says that it was renewed, whatever Redis says
	}
	return b.masters.extend(ctx, g, ttl)
}

// Keys tells tests which key is which.
func (l *Lease) Keys() (lock, fence, grant, queue string) {
	return l.keys.lock, l.keys.fence, l.keys.grant, l.keys.queue
}
