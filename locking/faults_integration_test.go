//go:build integration

package locking_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// succession has one holder fall out with Redis and another take over, and
// tells whether the first knew in time.
func succession(t *testing.T, server *redistest.Server, first *locking.Lease) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	other := open(t, server, brief)
	var second *locking.Lease
	until(t, "another gets the lock", func() bool {
		lease, err := other.Acquire(ctx, "r")
		if err == nil {
			second = lease
		} else if !errors.Is(err, locking.ErrUnavailable) && !errors.Is(err, locking.ErrNotAcquired) {
			t.Fatal(err)
		}
		return err == nil
	})
	if second.Fence() <= first.Fence() {
		return fmt.Errorf("fence %d after %d", second.Fence(), first.Fence())
	}
	if first.Err() == nil {
		return errors.New("two holders")
	}
	return second.Release(ctx)
}

func TestLease_ends_before_another_gets_the_lock(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, server *redistest.Server, first *locking.Lease){
		"when redis hangs for a while": func(t *testing.T, server *redistest.Server, first *locking.Lease) {
			if err := server.Pause(); err != nil {
				t.Fatal(err)
			}
			lost(t, first)
			if err := server.Resume(); err != nil {
				t.Fatal(err)
			}
		},
		"when redis is killed": func(t *testing.T, server *redistest.Server, first *locking.Lease) {
			server.Kill()
			lost(t, first)
			server.MustRestart(t)
		},
		"when redis restarts empty": func(t *testing.T, server *redistest.Server, first *locking.Lease) {
			server.MustRestart(t)
			lost(t, first)
		},
		"when redis is flushed": func(t *testing.T, server *redistest.Server, first *locking.Lease) {
			if err := server.ControlClient(t).FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			lost(t, first)
		},
		"when an operator deletes the lock": func(t *testing.T, server *redistest.Server, first *locking.Lease) {
			lock, _, _, _ := first.Keys()
			if err := server.ControlClient(t).Del(t.Context(), lock).Err(); err != nil {
				t.Fatal(err)
			}
			lost(t, first)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			m := open(t, server, brief)
			first := acquire(t, m)
			fault(t, server, first)
			if err := succession(t, server, first); err != nil {
				t.Fatal(err)
			}
			if err := first.Release(t.Context()); !errors.Is(err, locking.ErrNotHeld) {
				t.Fatalf("release of a lost lease: %v", err)
			}
			release(t, acquire(t, m)) // the manager goes on
		})
	}
}

func TestSuccession_rejects_a_holder_that_does_not_end_itself(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m, err := locking.Broken(server.Client(t), quiet(brief), locking.ForgetsToEnd)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, m)
	first := acquire(t, m)
	if err := succession(t, server, first); err == nil || err.Error() != "two holders" {
		t.Fatalf("accepted: %v", err)
	}
}

func TestLease_is_kept_alive_in_redis_after_its_acquire_context_ended(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	lease, err := open(t, server, brief).Acquire(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	lock, _, _, _ := lease.Keys()
	start := time.Now()
	last, renewed := time.Duration(0), 0
	until(t, "its TTL is renewed for two TTLs and more", func() bool {
		left, err := control.PTTL(t.Context(), lock).Result()
		if err != nil || left <= 0 {
			t.Fatalf("PTTL is %s, %v", left, err)
		}
		if left > last {
			renewed++
		}
		last = left
		return time.Since(start) > 2*brief.TTL+brief.TTL/2 && renewed > 5
	})
	if err := lease.Err(); err != nil {
		t.Fatal(err)
	}
	release(t, lease)
}

func TestAcquire_is_woken_by_a_release_in_another_process(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	// A holder whose TTL is an hour: only its release can let the other in.
	holder := acquire(t, open(t, server, locking.Options{TTL: time.Hour}))
	other := open(t, server, brief)
	granted := make(chan error, 1)
	go func() {
		lease, err := other.Acquire(context.Background(), "r")
		if err == nil {
			err = lease.Release(context.Background())
		}
		granted <- err
	}()
	until(t, "the other listens", func() bool {
		info, err := control.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:1")
	})
	release(t, holder)
	if err := <-granted; err != nil {
		t.Fatal(err)
	}
}

func TestAcquire_takes_over_from_a_process_that_died(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	first := acquire(t, open(t, server, brief))
	lock, _, _, _ := first.Keys()
	release(t, first)
	// What a dead process leaves: a token that nobody renews.
	if err := control.Set(t.Context(), lock, "0123456789012345678901", brief.TTL).Err(); err != nil {
		t.Fatal(err)
	}
	second := acquire(t, open(t, server, brief))
	if second.Fence() <= first.Fence() {
		t.Fatalf("fence %d after %d", second.Fence(), first.Fence())
	}
	release(t, second)
}

func TestAcquire_that_is_cancelled_while_redis_hangs_leaves_no_lock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m := open(t, server, locking.Options{TTL: time.Hour})
	release(t, acquire(t, m)) // the connection is there
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := m.Acquire(ctx, "r")
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	release(t, acquire(t, m, locking.WithWait(patience)))
}

// After a flush the counter starts again above what was given out a moment ago, also
// where the reply of who made it was lost, and by a process that knows the clock badly.
func TestFences_rise_over_a_flush_and_a_lost_reply(t *testing.T) {
	t.Parallel()
	const badly = 100 * time.Millisecond
	server := redistest.Start(t)
	proxy := faultproxy.Start(t, server.Addr())
	opts := server.Options()
	opts.Addr = proxy.Addr()
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	m := openOn(t, []redis.UniversalClient{client}, unhurried, "")
	proxy.Delay(badly)
	other, err := m.Acquire(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	release(t, other)
	before := acquire(t, open(t, server, unhurried))
	if err := server.ControlClient(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.LoseReplies()
	after := acquire(t, m)
	if proxy.Counts().RepliesLost == 0 {
		t.Error("no reply was lost: this showed nothing")
	}
	if after.Fence() <= before.Fence() {
		t.Errorf("fence %d after %d: %d less", after.Fence(), before.Fence(), before.Fence()-after.Fence())
	}
	if err := before.Release(t.Context()); !errors.Is(err, locking.ErrNotHeld) {
		t.Errorf("the one that was flushed ended in %v", err)
	}
	release(t, after)
}

// Who wants what another has waits, as if all masters were there.
func TestAcquire_waits_while_a_minority_of_the_masters_is_away(t *testing.T) {
	t.Parallel()
	for _, away := range [][]int{{0}, {2}, {0, 1}, {3, 4}, {0, 4}} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			t.Parallel()
			masters := servers(t, 2*len(away)+1)
			opts := unhurried
			opts.Quarantine = -1
			clients := dialAll(t, masters)
			holder := acquire(t, openOn(t, clients, opts, ""))
			got := make(chan error, 2)
			wait := func() {
				waiting, once := make(chan struct{}), sync.Once{}
				m := openOn(t, dialAll(t, masters), opts, "")
				go func() {
					lease, err := m.Acquire(t.Context(), "r", locking.WithWaitCallback(func(locking.Waiting) { once.Do(func() { close(waiting) }) }))
					if err == nil {
						err = lease.Release(t.Context())
					}
					got <- err
				}()
				select {
				case <-waiting:
				case err := <-got:
					t.Fatalf("it does not wait: %v", err)
				}
			}
			wait()
			for _, i := range away {
				masters[i].Kill()
			}
			m := openOn(t, dialAll(t, masters), opts, "")
			for range 20 { // before it knows that they are away, and after
				if lease, err := m.Acquire(t.Context(), "r", locking.WithWait(0)); !errors.Is(err, locking.ErrNotAcquired) {
					t.Errorf("got %v, %v", lease, err)
				}
			}
			wait()
			release(t, holder)
			for range 2 {
				if err := <-got; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
