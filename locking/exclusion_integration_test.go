//go:build integration

package locking_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

func TestLockManager_on_redis_server(t *testing.T) {
	t.Parallel()
	contract.LockManager(t, func(tb testing.TB) contract.LockManagerBackend {
		server := redistest.Start(tb)
		return contract.LockManagerBackend{
			Open: func(tb testing.TB, opts locking.Options) locking.LockManager { return open(tb, server, opts) },
			Flush: func(tb testing.TB) {
				if err := server.ControlClient(tb).FlushAll(context.Background()).Err(); err != nil {
					tb.Fatal(err)
				}
			},
		}
	})
}

// A cluster of one master refuses commands whose keys do not share a slot.
func TestLockManager_on_a_cluster(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("cluster-enabled", "yes"))
	control := server.ControlClient(t)
	if err := control.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the cluster is up", func() bool {
		info, err := control.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	var backends atomic.Int64
	contract.LockManager(t, func(testing.TB) contract.LockManagerBackend {
		namespace := fmt.Sprint("backend-", backends.Add(1))
		return contract.LockManagerBackend{
			Open: func(tb testing.TB, opts locking.Options) locking.LockManager {
				tb.Helper()
				client := redis.NewClusterClient(&redis.ClusterOptions{
					Addrs: []string{server.Addr()}, ContextTimeoutEnabled: true, MaxRetries: -1,
				})
				tb.Cleanup(func() { _ = client.Close() })
				opts.Namespace = namespace
				m, err := locking.New(client, quiet(opts))
				if err != nil {
					tb.Fatal(err)
				}
				closeLater(tb, m)
				return m
			},
		}
	})
}

func TestLockManager_on_a_quorum(t *testing.T) {
	t.Parallel()
	for _, masters := range []int{3, 5} {
		t.Run(fmt.Sprint(masters, " masters"), func(t *testing.T) {
			t.Parallel()
			c := newContest(t, masters, locking.Contender{})
			c.up(3 * time.Second) // the TTL of the suite, and a second by which Redis may be wrong
			var backends atomic.Int64
			contract.LockManager(t, func(testing.TB) contract.LockManagerBackend {
				namespace := fmt.Sprint("backend-", backends.Add(1))
				return contract.LockManagerBackend{
					MayMissFollowers: true,
					Open: func(tb testing.TB, opts locking.Options) locking.LockManager {
						tb.Helper()
						opts.Namespace = namespace
						var clients []redis.UniversalClient
						for _, server := range c.servers {
							clients = append(clients, server.Client(tb))
						}
						m, err := locking.NewQuorum(clients, quiet(opts))
						if err != nil {
							tb.Fatal(err)
						}
						closeLater(tb, m)
						return m
					},
				}
			})
		})
	}
}

// contend has goroutines on several managers visit one critical section, while
// disturb runs. An error that passes is one that disturb brings about: who meets
// it instead of a lease asks again.
func contend(
	ctx context.Context, managers []*locking.Manager, each, rounds int, disturb func(stop <-chan struct{}), passes ...error,
) error {
	var (
		section contract.Exclusion
		wg      sync.WaitGroup
		errs    = make(chan error, each*len(managers))
		stop    = make(chan struct{})
		stopped = make(chan struct{})
	)
	go func() {
		defer close(stopped)
		disturb(stop)
	}()
	passing := func(err error) bool {
		return slices.ContainsFunc(passes, func(pass error) bool { return errors.Is(err, pass) })
	}
	for _, m := range managers {
		for range each {
			wg.Go(func() {
				for range rounds {
					lease, err := m.Acquire(ctx, "r")
					for passing(err) {
						lease, err = m.Acquire(ctx, "r")
					}
					if err != nil {
						errs <- err
						return
					}
					section.Enter(lease.Fence())
					<-time.After(time.Millisecond)
					section.Leave()
					if err := lease.Release(ctx); err != nil && !passing(err) {
						errs <- err
						return
					}
				}
			})
		}
	}
	wg.Wait()
	close(stop)
	<-stopped
	close(errs)
	if err := errors.Join(section.Err(), <-errs); err != nil {
		return err
	}
	if want := each * rounds * len(managers); section.Visits() != want {
		return fmt.Errorf("%d visits; want %d", section.Visits(), want)
	}
	return nil
}

func undisturbed(<-chan struct{}) {}

func TestExclusion_of_sixteen_goroutines_on_four_managers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		disturb func(context.Context, *redis.Client) error
		passes  []error
	}{
		"undisturbed": {disturb: func(context.Context, *redis.Client) error { return nil }},
		"while scripts are forgotten": {disturb: func(ctx context.Context, c *redis.Client) error {
			return c.ScriptFlush(ctx).Err()
		}},
		// A command that is cut each time it is tried is an outage for its caller.
		"while connections are cut": {passes: []error{locking.ErrUnavailable}, disturb: func(ctx context.Context, c *redis.Client) error {
			return c.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
		}},
		"while rings and records are deleted": {disturb: func(ctx context.Context, c *redis.Client) error {
			return c.Del(ctx, "temporal-redis:lockq:{r}", "temporal-redis:lockgrant:{r}").Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			control := server.ControlClient(t)
			managers := make([]*locking.Manager, 4)
			for i := range managers {
				managers[i] = open(t, server, locking.Options{Wait: patience})
			}
			err := contend(t.Context(), managers, 4, 10, func(stop <-chan struct{}) {
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
						if err := test.disturb(context.Background(), control); err != nil {
							t.Error(err)
						}
					}
				}
			}, test.passes...)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestExclusion_rejects_broken_lockers(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]string{
		locking.GrantsHeld:    "at the same time",
		locking.RepeatsFences: "after fence",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			managers := make([]*locking.Manager, 4)
			for i := range managers {
				m, err := locking.Broken(server.Client(t), quiet(locking.Options{Wait: patience}), how)
				if err != nil {
					t.Fatal(err)
				}
				closeLater(t, m)
				managers[i] = m
			}
			err := contend(t.Context(), managers, 4, 5, undisturbed)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("accepted: %v", err)
			}
		})
	}
}

// leastRules are those that docs/operations.md gives for the masters of locks.
var leastRules = []string{
	"on", ">pw", "resetkeys", "~temporal-redis:*", "resetchannels", "-@all", "+ping", "+info", "+time", "+evalsha", "+eval", "+set", "+get", "+getrange",
	"+del", "+pexpire", "+pttl", "+expire", "+copy", "+zadd", "+zincrby", "+zscore", "+bzpopmin", "+client|id", "+client|unblock",
}

func TestLock_masters_need_no_more_permissions_than_the_docs_say(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var servers []*redistest.Server
			for range masters {
				servers = append(servers, redistest.Start(t, redistest.WithUser("locks", leastRules...)))
			}
			open := func() *locking.Manager {
				var clients []redis.UniversalClient
				for _, server := range servers {
					o, err := redis.ParseURL(server.URLFor("locks", "pw"))
					if err != nil {
						t.Fatal(err)
					}
					o.ContextTimeoutEnabled, o.MaxRetries = true, -1
					client := redis.NewClient(o)
					t.Cleanup(func() { _ = client.Close() })
					clients = append(clients, client)
				}
				opts := brief
				opts.Quarantine = opts.TTL
				m, err := locking.NewQuorum(clients, quiet(opts))
				if err != nil {
					t.Fatal(err)
				}
				closeLater(t, m)
				return m
			}
			a, b := open(), open()
			first := acquire(t, a, locking.WithWait(patience)) // until the quarantine is over
			next := make(chan *locking.Lease, 1)
			waiting := make(chan struct{})
			var once sync.Once
			go func() {
				lease, err := b.Acquire(t.Context(), "r", locking.WithWait(patience), locking.WithWaitCallback(func(locking.Waiting) { once.Do(func() { close(waiting) }) }))
				if err != nil {
					t.Error(err)
				}
				next <- lease
			}()
			<-waiting
			if err := first.Renew(t.Context()); err != nil {
				t.Error(err)
			}
			if err := a.Raise(t.Context(), "r", first.Fence()+1); err != nil {
				t.Error(err)
			}
			release(t, first)
			if second := <-next; second != nil {
				if second.Fence() <= first.Fence() {
					t.Errorf("fence %d after %d", second.Fence(), first.Fence())
				}
				release(t, second)
			}
		})
	}
}
