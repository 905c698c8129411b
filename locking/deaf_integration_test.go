//go:build integration

package locking_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// A wait whose connection fell into a hole hears no ring any more. It has a turn all the
// same, although others want the lock all the time.
func TestAcquire_has_a_turn_although_its_ring_is_lost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	proxy := faultproxy.Start(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	holder := acquire(t, open(t, server, unhurried))
	deaf := openOn(t, []redis.UniversalClient{client}, unhurried, "")
	got := make(chan error, 1)
	go func() {
		lease, err := deaf.Acquire(t.Context(), "r", locking.WithWait(patience/2))
		if err == nil {
			err = lease.Release(t.Context())
		}
		got <- err
	}()
	until(t, "it listens", func() bool {
		info, err := control.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:1")
	})
	proxy.BlackHolePresent(faultproxy.Both) // new connections work
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 3 {
		m := open(t, server, unhurried)
		others.Go(func() {
			for ctx.Err() == nil {
				lease, err := m.Acquire(ctx, "r")
				if err == nil {
					<-time.After(15 * time.Millisecond)
					err = lease.Release(context.WithoutCancel(ctx))
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	release(t, holder)
	if err := <-got; err != nil {
		t.Errorf("it has no turn: %v", err)
	}
	stop()
	others.Wait()
}
