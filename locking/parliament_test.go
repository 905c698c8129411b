package locking

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// parliament is a quorum on embedded servers. What runs in the background is
// waited for at the end of the test, or by rest.
type parliament struct {
	*quorum
	t       *testing.T
	keys    lockKeys
	servers []*miniredis.Miniredis
	doors   []*door
	tasks   sync.WaitGroup
}

func convene(t *testing.T, masters int) *parliament {
	t.Helper()
	space, err := keys.NewSpace("test", "")
	if err != nil {
		t.Fatal(err)
	}
	p := &parliament{t: t, keys: keysOf(space, "r"), quorum: &quorum{now: systemClock, id: newToken()}}
	p.spawn = p.tasks.Go
	closed := make(chan struct{})
	close(closed)
	p.crew = newCrew(p.spawn, closed) // nobody stays: tests wait for what runs
	p.persist = func(_ time.Duration, do func(context.Context) error) { _ = do(t.Context()) }
	for range masters {
		server := miniredis.RunT(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = client.Close() })
		d := new(door)
		client.AddHook(d)
		p.servers, p.doors = append(p.servers, server), append(p.doors, d)
		p.nodes = append(p.nodes, newNode(client, systemClock, slog.New(slog.DiscardHandler)))
	}
	t.Cleanup(func() {
		p.tasks.Wait()
		p.close()
	})
	return p
}

// door holds up the replies of one master while it is shut, and lets nobody through
// while it is locked.
type door struct {
	shut   atomic.Pointer[chan struct{}]
	locked atomic.Bool
}

func (d *door) close() (open func()) {
	c := make(chan struct{})
	d.shut.Store(&c)
	return sync.OnceFunc(func() { d.shut.Store(nil); close(c) })
}

var errNobody = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func (*door) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *door) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.locked.Load() {
			cmd.SetErr(errNobody)
			return errNobody
		}
		return next(ctx, cmd)
	}
}

func (d *door) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if d.locked.Load() {
			for _, cmd := range cmds {
				cmd.SetErr(errNobody)
			}
			return errNobody
		}
		err := next(ctx, cmds)
		if c := d.shut.Load(); c != nil {
			<-*c
		}
		return err
	}
}

// bounded is a context as long as any test needs.
func (p *parliament) bounded() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	p.t.Cleanup(cancel)
	return ctx
}

func (p *parliament) take() *quorumClaim {
	p.t.Helper()
	c := p.candidate()
	if err := c.obtain(p.bounded(), DefaultTTL); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *parliament) candidate() *quorumClaim {
	return p.claim(p.keys, newToken()).(*quorumClaim)
}

func (p *parliament) give(c *quorumClaim) {
	p.t.Helper()
	if err := c.release(p.bounded(), nil); err != nil {
		p.t.Fatal(err)
	}
}

// holders is who has the lock, by master.
func (p *parliament) holders() []string {
	all := make([]string, len(p.servers))
	for i, server := range p.servers {
		all[i], _ = server.Get(p.keys.lock)
	}
	return all
}

// count is how many masters a claim has.
func (p *parliament) count(c *quorumClaim) (n int) {
	for _, holder := range p.holders() {
		if tokenOf(holder) == c.token {
			n++
		}
	}
	return n
}

// down lets nobody reach masters.
func (p *parliament) down(masters ...int) {
	for _, i := range masters {
		p.doors[i].locked.Store(true)
	}
}

func (p *parliament) back(masters ...int) {
	for _, i := range masters {
		p.doors[i].locked.Store(false)
		p.nodes[i].rest.until.Store(0) // else it is left alone for a second
	}
}
