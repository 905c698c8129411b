//go:build integration

package locking_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// One promise of the quorum at a time, in the order of events that needs it. Where
// many processes meet by chance (TestLock_is_held_by_one), a lock without the promise
// is found out only at times.

// unhurried are leases that outlive a test and are not renewed in it.
var unhurried = locking.Options{TTL: 2 * time.Minute, RenewEvery: time.Minute, Wait: patience}

// servers starts independent masters.
func servers(t *testing.T, number int) (all []*redistest.Server) {
	t.Helper()
	for range number {
		all = append(all, redistest.Start(t))
	}
	return all
}

// openAll is one more manager on the masters, with clients of its own. It is broken
// on purpose unless how is empty.
func openAll(t *testing.T, masters []*redistest.Server, opts locking.Options, how string) *locking.Manager {
	t.Helper()
	return openOn(t, dialAll(t, masters), opts, how)
}

func dialAll(t *testing.T, masters []*redistest.Server) (clients []redis.UniversalClient) {
	t.Helper()
	for _, master := range masters {
		client := redis.NewClient(&redis.Options{Addr: master.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
		t.Cleanup(func() { _ = client.Close() })
		clients = append(clients, client)
	}
	return clients
}

func openOn(t *testing.T, clients []redis.UniversalClient, opts locking.Options, how string) *locking.Manager {
	t.Helper()
	m, err := locking.BrokenQuorum(clients, quiet(opts), how)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, m)
	return m
}

// TestMaster_that_started_again_has_no_vote: A has the lock on masters 1 and 2. 2
// starts again and has forgotten it, so 2 and 3 would give it to B.
func TestMaster_that_started_again_has_no_vote(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		quarantine time.Duration // B's; 0: a TTL
		durable    bool          // from its start on, it says
		refused    bool
	}{
		"in quarantine": {0, false, true},
		"in quarantine, though it keeps all from now on": {0, true, true},
		"without quarantine":                             {-1, false, false}, // so this is what the quarantine is for
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			masters := servers(t, 3)
			opts := unhurried
			opts.Quarantine = -1
			a, b := openAll(t, masters, opts, ""), locking.Options{TTL: opts.TTL, RenewEvery: opts.RenewEvery, Quarantine: test.quarantine}
			masters[2].Kill()
			held := acquire(t, a)
			masters[2].MustRestart(t)
			masters[1].MustRestart(t)
			for name, value := range map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"} {
				if !test.durable {
					break
				}
				if err := masters[1].ControlClient(t).ConfigSet(t.Context(), name, value).Err(); err != nil {
					t.Fatal(err)
				}
			}

			lease, err := openAll(t, masters, b, "").Acquire(t.Context(), "r", locking.WithWait(0))
			if held.Err() != nil {
				t.Fatalf("the first lease ended: %v", held.Err())
			}
			switch {
			case !test.refused && err != nil:
				t.Errorf("%v; want a lease, else the test shows nothing", err)
			case !test.refused:
				release(t, lease)
			case err == nil:
				t.Error("two hold the lock")
			case !strings.Contains(err.Error(), "Quarantine"):
				t.Errorf("%v; want the quarantine named", err)
			}
		})
	}
}

// As before, but B has known the masters for long: that they are others now, only its
// connections tell.
func TestMaster_that_started_again_has_no_vote_with_those_who_knew_it(t *testing.T) {
	t.Parallel()
	const quarantine = 10 * time.Second
	masters := servers(t, 3)
	opts := unhurried
	opts.Quarantine = -1
	a, b := openAll(t, masters, opts, ""), openAll(t, masters, locking.Options{TTL: quarantine / 2, Quarantine: quarantine}, "")
	other, err := b.Acquire(t.Context(), "other", locking.WithWait(patience)) // that of their start ends first
	if err != nil {
		t.Fatal(err)
	}
	release(t, other)
	masters[2].Kill()
	held := acquire(t, a)
	masters[2].MustRestart(t)
	masters[1].MustRestart(t)
	lease, err := b.Acquire(t.Context(), "r", locking.WithWait(0))
	switch {
	case held.Err() != nil:
		t.Errorf("the first lease ended: %v", held.Err())
	case err == nil:
		t.Error("two hold the lock")
		release(t, lease)
	case !strings.Contains(err.Error(), "Quarantine"):
		t.Errorf("%v; want the quarantine named", err)
	}
}

// TestRelease_leaves_the_lock_of_another: A's lease is lost, B has the lock, and A
// gives back what it thinks that it has.
func TestRelease_leaves_the_lock_of_another(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		broken  string
	}{
		"one master":    {masters: 1},
		"three masters": {masters: 3},
		"one master, and the release takes whatever is there":    {1, locking.ReleasesAnyone},
		"three masters, and the release takes whatever is there": {3, locking.ReleasesAnyone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			masters := servers(t, test.masters)
			opts := unhurried
			opts.Quarantine = -1
			old := acquire(t, openAll(t, masters, opts, test.broken))
			lock, _, _, _ := old.Keys()
			for _, master := range masters {
				if err := master.ControlClient(t).Del(t.Context(), lock).Err(); err != nil {
					t.Fatal(err)
				}
			}
			held := acquire(t, openAll(t, masters, opts, ""))
			_ = old.Release(t.Context())
			if err := held.Renew(t.Context()); (err == nil) != (test.broken == "") {
				t.Errorf("renewed: %v", err)
			}
		})
	}
}

// TestLease_ends_before_another_has_it: A hears nothing of its masters any more, and B
// gets the lock when it has expired there.
func TestLease_ends_before_another_has_it(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		masters int
		broken  string
	}{
		"one master":                             {masters: 1},
		"three masters":                          {masters: 3},
		"one master, and time does not go by":    {1, locking.NeverExpires},
		"three masters, and time does not go by": {3, locking.NeverExpires},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			masters := servers(t, test.masters)
			opts := brief
			opts.Quarantine = -1
			var proxies []*faultproxy.Proxy
			var clients []redis.UniversalClient
			for _, master := range masters {
				proxy := faultproxy.Start(t, master.Addr())
				client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
				t.Cleanup(func() { _ = client.Close() })
				proxies, clients = append(proxies, proxy), append(clients, client)
			}
			a, err := locking.BrokenQuorum(clients, quiet(opts), test.broken)
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, a)
			first := acquire(t, a)
			for _, proxy := range proxies {
				proxy.BlackHole(faultproxy.Both)
			}
			second := acquire(t, openAll(t, masters, opts, ""))
			if err := first.Err(); (err != nil) != (test.broken == "") {
				t.Errorf("the first lease: %v", err)
			}
			release(t, second)
		})
	}
}

// TestFence_is_told_to_a_majority: the counter of master 1 is far ahead, so a grant of
// 1 and 2 has its fence. The next one is of 2 and 3.
func TestFence_is_told_to_a_majority(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{"it is": "", "it is not": locking.LeavesFences} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			masters := servers(t, 3)
			opts := unhurried
			opts.Quarantine = -1
			first := acquire(t, openAll(t, masters, opts, ""))
			release(t, first)
			_, fence, _, _ := first.Keys()
			ahead := redis.Z{Score: float64(first.Fence() + uint64(time.Hour/time.Microsecond)), Member: "m"}
			if err := masters[0].ControlClient(t).ZAddGT(t.Context(), fence, ahead).Err(); err != nil {
				t.Fatal(err)
			}
			masters[2].Kill()
			second := acquire(t, openAll(t, masters, opts, broken))
			if float64(second.Fence()) < ahead.Score {
				t.Fatalf("fence %d; want more than %.0f, which a master has", second.Fence(), ahead.Score)
			}
			release(t, second)
			masters[2].MustRestart(t)
			masters[0].Kill()
			third := acquire(t, openAll(t, masters, opts, ""))
			if (third.Fence() > second.Fence()) != (broken == "") {
				t.Errorf("fence %d after %d", third.Fence(), second.Fence())
			}
			release(t, third)
			masters[0].MustRestart(t) // for those that are closed now
		})
	}
}
