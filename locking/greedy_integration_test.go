//go:build integration

package locking_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// One takes the lock again as soon as it has given it back, and does not hear in time of
// who waits for it; or nobody can be woken. It lets others go first all the same.
func TestAcquire_has_a_turn_beside_one_who_takes_the_lock_again_and_again(t *testing.T) {
	t.Parallel()
	far := func(p *faultproxy.Proxy) { p.Delay(20 * time.Millisecond) }
	away := func(p *faultproxy.Proxy) { p.Refuse() }
	hole := func(p *faultproxy.Proxy) { p.BlackHole(faultproxy.Both) }
	reached := func(*faultproxy.Proxy) {}
	const seldom = "it is away for who wants it"
	for name, test := range map[string]struct {
		greedy, waiter func(*faultproxy.Proxy) // how they reach the master where waiters meet
		hold           time.Duration           // long beside the time that the lock is free
		turns          int                     // of the greedy one
	}{
		"all reach the master where they meet": {reached, reached, 300 * time.Millisecond, 16},
		"it is far away":                       {far, far, 300 * time.Millisecond, 16},
		"it is far away for who has the lock":  {far, reached, 300 * time.Millisecond, 16},
		"it is away":                           {away, away, 300 * time.Millisecond, 16},
		"it does not answer":                   {hole, hole, 300 * time.Millisecond, 60},
		"it is away for who has the lock":      {away, reached, 300 * time.Millisecond, 16},
		seldom:                                 {reached, away, 100 * time.Millisecond, 100}, // of which one in eight asks
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			masters := servers(t, 3)
			opts := unhurried
			opts.Quarantine = -1
			one := func(way func(*faultproxy.Proxy)) *locking.Manager {
				clients := dialAll(t, masters)
				home := openOn(t, clients, opts, "").Home("r")
				proxy := faultproxy.Start(t, masters[home].Addr())
				way(proxy)
				client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
				t.Cleanup(func() { _ = client.Close() })
				clients[home] = client
				return openOn(t, clients, opts, "")
			}
			greedy, waiter := one(test.greedy), one(test.waiter)
			if name != seldom {
				greedy.SpotSeldom() // or that helps, too
			}
			lease := acquire(t, greedy)
			got := make(chan error, 1)
			go func() {
				lease, err := waiter.Acquire(t.Context(), "r", locking.WithWait(patience))
				if err == nil {
					err = lease.Release(t.Context())
				}
				got <- err
			}()
			for turns := 1; ; turns++ {
				select {
				case err := <-got:
					if t.Logf("after %d turns", turns); err != nil {
						t.Error(err)
					}
					release(t, lease)
					return
				case <-time.After(test.hold):
				}
				if turns == test.turns {
					t.Fatalf("it had no turn while another had %d", turns)
				}
				release(t, lease)
				lease = acquire(t, greedy)
			}
		})
	}
}
