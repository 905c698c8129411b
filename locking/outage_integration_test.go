//go:build integration

package locking_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

func TestManager_tells_outages_from_refusals(t *testing.T) {
	t.Parallel()
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		server.Kill()
		_, err := m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
			t.Fatal(err)
		}
	})
	t.Run("a hanging server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		_, err := m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		release(t, acquire(t, m))
	})
	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithPassword("right"))
		m := openAs(t, server, "", "canary-wrong")
		_, err := m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrDenied) || strings.Contains(err.Error(), "canary") {
			t.Fatal(err)
		}
	})
	for name, rule := range map[string]string{"no scripts": "-@scripting", "no lock keys": "~other:*"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := []string{"on", ">pw", "+@all", rule}
			if !strings.HasPrefix(rule, "~") {
				rules = append(rules, "~*")
			}
			server := redistest.Start(t, redistest.WithUser("locker", rules...))
			m := openAs(t, server, "locker", "pw")
			_, err := m.Acquire(t.Context(), "r")
			if !errors.Is(err, locking.ErrDenied) {
				t.Fatal(err)
			}
		})
	}
	t.Run("scripts no more", func(t *testing.T) { // whoever can take a lock can give it back
		t.Parallel()
		server := redistest.Start(t, redistest.WithUser("locker", "on", ">pw", "+@all", "~*"))
		control := server.ControlClient(t)
		rule := func(rule string) {
			if err := control.Do(t.Context(), "acl", "setuser", "locker", rule).Err(); err != nil {
				t.Fatal(err)
			}
		}
		m := openAs(t, server, "locker", "pw")
		lease, err := m.Acquire(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		rule("-@scripting")
		if err := lease.Release(t.Context()); !errors.Is(err, locking.ErrDenied) {
			t.Errorf("its release gave %v", err)
		}
		if _, err := m.Acquire(t.Context(), "other"); !errors.Is(err, locking.ErrDenied) {
			t.Errorf("the next one got %v", err)
		}
		rule("+@scripting")
		if lease, err = m.Acquire(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no memory", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		lease := acquire(t, m)
		control := server.ControlClient(t)
		if err := control.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
			t.Fatal(err)
		}
		_, err := m.Acquire(t.Context(), "other")
		if !errors.Is(err, locking.ErrUnavailable) {
			t.Fatal(err)
		}
		release(t, lease) // still possible
		if err := control.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
		release(t, acquire(t, m))
	})
}

// A master that takes no writes is away, until an operator or a fail-over mends it.
func TestManager_waits_for_masters_that_take_no_writes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts func(t *testing.T) []redistest.Option
		mend func(ctx context.Context, control *redis.Client) error
	}{
		"a replica": {
			opts: func(t *testing.T) []redistest.Option {
				t.Helper()
				primary := redistest.Start(t)
				return []redistest.Option{redistest.WithConfig("replicaof", "127.0.0.1", strconv.Itoa(primary.Port()))}
			},
			mend: func(ctx context.Context, control *redis.Client) error {
				return control.ReplicaOf(ctx, "NO", "ONE").Err()
			},
		},
		"too few replicas": {
			opts: func(*testing.T) []redistest.Option {
				return []redistest.Option{redistest.WithConfig("min-replicas-to-write", "1")}
			},
			mend: func(ctx context.Context, control *redis.Client) error {
				return control.ConfigSet(ctx, "min-replicas-to-write", "0").Err()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.opts(t)...)
			m := open(t, server, brief)
			_, err := m.Acquire(t.Context(), "r")
			if !errors.Is(err, locking.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v", err)
			}
			if err := test.mend(t.Context(), server.ControlClient(t)); err != nil {
				t.Fatal(err)
			}
			release(t, acquire(t, m))
		})
	}
}

// A replica that lacks the last grants takes over, as in a fail-over.
func TestFences_rise_when_a_replica_takes_over_that_lacks_grants(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Start(t), redistest.Start(t)
	first := open(t, primary, brief)
	release(t, acquire(t, first))
	s := follow(t, replica, primary)
	s.cut()
	for range 100 {
		release(t, acquire(t, first))
	}
	old := acquire(t, first)
	s.awaitLack(t)
	s.primary.Kill()
	s.takeOver(t)
	next := acquire(t, open(t, replica, brief))
	if next.Fence() <= old.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), old.Fence())
	}
	release(t, next)
}

// What 10,000 leases leave is what counts and names them, for a day.
func TestManager_leaves_nothing_behind(t *testing.T) {
	t.Parallel()
	const leases, callers = 10_000, 16
	masters := servers(t, 3)
	opts := unhurried
	opts.Quarantine = -1
	clients := dialAll(t, masters)
	m := openOn(t, clients, opts, "")
	release(t, acquire(t, m)) // what is made once is there
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range leases / callers {
				lease, err := m.Acquire(t.Context(), fmt.Sprint(caller, "-", i))
				if err == nil {
					err = lease.Release(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := m.Close(t.Context()); err != nil { // the last master may have been asked in the background
		t.Fatal(err)
	}
	for i, master := range masters {
		control := master.ControlClient(t)
		names, err := control.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		lives, err := control.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, name := range names {
				p.TTL(t.Context(), name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for j, name := range names {
			switch ttl := lives[j].(*redis.DurationCmd).Val(); {
			case ttl < 0:
				t.Errorf("master %d: %s has no TTL", i, name)
			case strings.Contains(name, ":lock:"):
				t.Errorf("master %d: %s is still held", i, name)
			}
		}
		// The clients keep their pools; nothing else stays. The server may hear of
		// a connection's end a little later.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for n, kept := 0, -1; n != kept; {
			connected, err := control.ClientList(ctx).Result()
			if err != nil {
				t.Fatalf("master %d: %d connections, of which %d are in pools: %v", i, n, kept, err)
			}
			n, kept = strings.Count(connected, "\n"), pooled(clients[i])+pooled(control)
		}
	}
}

// pooled is how many connections a client has: pipelines have a pool of their own.
func pooled(client redis.UniversalClient) int {
	pools := client.PoolStats()
	n := pools.TotalConns
	if pools.PipelineStats != nil {
		n += pools.PipelineStats.TotalConns
	}
	return int(n)
}
