package locking

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Broken returns a Manager whose masters break a promise on purpose, for tests
// that must notice.
func Broken(client redis.UniversalClient, opts Options, how string) (*Manager, error) {
	return BrokenQuorum([]redis.UniversalClient{client}, opts, how)
}

// BrokenQuorum is Broken on several masters. If how is empty, nothing is broken.
func BrokenQuorum(clients []redis.UniversalClient, opts Options, how string) (*Manager, error) {
	m, err := NewQuorum(clients, opts)
	if err != nil || how == "" {
		return m, err
	}
	m.masters = broken{masters: m.masters, how: how, clients: clients}
	switch how {
	case NeverExpires:
		started := systemClock()
		m.now = func() instant { return started }
	case LeavesFences:
		for _, client := range clients {
			client.AddHook(deafToRaises{})
		}
	}
	return m, nil
}

// Ways of Broken.
const (
	GrantsHeld    = "a held lock is granted again"
	RepeatsFences = "all grants have one fence"
	ForgetsToEnd  = "a lease does not end itself"
	// NeverExpires has a lease that does not see time go by.
	NeverExpires = "a lease is held for ever"
	// ReleasesAnyone has a release that does not look whose the lock is.
	ReleasesAnyone = "a release takes whatever is there"
	// LeavesFences has the fences of masters differ.
	LeavesFences = "a fence is not told to a majority"
)

type broken struct {
	masters
	how     string
	clients []redis.UniversalClient
}

func (b broken) claim(k lockKeys, token string) claim {
	if b.how == GrantsHeld {
		k.lock += token
	}
	return brokenClaim{claim: b.masters.claim(k, token), broken: b, keys: k}
}

// deafToRaises has a master take no fence from others.
type deafToRaises struct{}

func (deafToRaises) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (deafToRaises) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (deafToRaises) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 2 && cmds[0].Name() == "zadd" && cmds[1].Name() == "expire" {
			return nil
		}
		return next(ctx, cmds)
	}
}

type brokenClaim struct {
	claim
	broken
	keys lockKeys
}

func (b brokenClaim) release(ctx context.Context, waited func(time.Duration)) error {
	if b.how == ReleasesAnyone {
		for _, client := range b.clients {
			_ = client.Del(ctx, b.keys.lock).Err()
		}
	}
	return b.claim.release(ctx, waited)
}

func (b brokenClaim) grant() grant {
	g := b.claim.grant()
	if b.how == RepeatsFences {
		g.fence = 1
	}
	return g
}

func (b brokenClaim) extend(ctx context.Context, ttl time.Duration) error {
	if b.how == ForgetsToEnd {
		return nil // says that it was renewed, whatever Redis says
	}
	return b.claim.extend(ctx, ttl)
}

// Keys tells tests which key is which.
func (l *Lease) Keys() (lock, fence, grant, queue string) {
	return l.keys.lock, l.keys.fence, l.keys.grant, l.keys.queue
}

// SpotSeldom has releases ask for those who only look at the lock if nobody can be woken.
func (m *Manager) SpotSeldom() { m.masters.(*quorum).spotEvery = 0 }

// Home is the number of the master on which the waiters of a resource meet.
func (m *Manager) Home(resource string) int {
	return m.masters.(*quorum).home(keysOf(m.space, resource))
}
