package interceptors_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
)

// silentLocks are locks whose Redis says nothing to the first who asks.
type silentLocks struct {
	locking.LockManager
	once  sync.Once
	asked chan struct{} // closed when that one waits
}

func (s *silentLocks) Acquire(ctx context.Context, resource string, opts ...locking.Option) (*locking.Lease, error) {
	first := false
	s.once.Do(func() { first = true })
	if !first {
		return s.LockManager.Acquire(ctx, resource, opts...)
	}
	close(s.asked)
	<-ctx.Done()
	return nil, fmt.Errorf("acquire: %w", ctx.Err())
}

// turned is an Availability that a test turns.
type turned struct {
	mu      sync.Mutex
	down    bool
	changed chan struct{}
}

func (a *turned) Available() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.down
}

func (a *turned) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *turned) turn(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	close(a.changed)
	a.changed = make(chan struct{})
}

// watchedHost is a host of locks whose Redis is watched, and hears what is published.
type watchedHost struct {
	locks  locking.LockManager
	health *turned
	told   chan notifier.Event
}

func (h watchedHost) Enter() (interceptors.Resources, func(), error) {
	return interceptors.Resources{Locks: h.locks, Health: h.health, LockHealth: h.health, Publisher: h}, func() {}, nil
}

func (h watchedHost) Publisher() notifier.Publisher { return h }

func (h watchedHost) Publish(ev notifier.Event) error {
	h.told <- ev
	return nil
}

// act runs an activity behind the chain; what comes is how it ended.
func act(chain interceptor.WorkerInterceptor, do func(context.Context) error) <-chan error {
	var suite sdktestsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{chain}})
	env.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: "act"})
	done := make(chan error, 1)
	go func() {
		_, err := env.ExecuteActivity("act")
		done <- err
	}()
	return done
}

// Redis goes silent while an activity waits for its lock: once that is known the
// attempt holds, and says so, instead of waiting for the answer.
func TestAWaitForALockBecomesAHoldWhenRedisIsAway(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	registry := prometheus.NewRegistry()
	manager, err := locking.New(client, locking.Options{Logger: slog.New(slog.DiscardHandler), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	host := watchedHost{
		locks:  &silentLocks{LockManager: manager, asked: make(chan struct{})},
		health: &turned{changed: make(chan struct{})}, told: make(chan notifier.Event, 100),
	}
	inbound, err := interceptors.NewWorker(host, interceptors.Options{
		DefaultPolicy: interceptors.Critical, Logger: slog.New(slog.DiscardHandler), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	entered := 0
	done := act(inbound, func(context.Context) error { entered++; return nil })
	<-host.locks.(*silentLocks).asked
	host.health.turn(true)
	for paused := false; !paused; {
		select {
		case ev := <-host.told:
			paused = ev.Status == notifier.StatusPaused && ev.Reason == "redis"
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for the lock of a Redis that is known to be away")
		}
	}
	host.health.turn(false)
	if err := <-done; err != nil || entered != 1 {
		t.Errorf("%v after %d entries", err, entered)
	}
	if err := manager.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}
