package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// runtime is everything that one period of running holds open.
type runtime struct {
	log               *slog.Logger
	temporalNamespace string // that the keys are named after; "" if the host named them
	conn              *redisstate.Conn
	options           redisstate.Options // with the namespace of the keys
	store             *redisstate.Store
	sessions          *redisstate.Sessions
	counters          *redisstate.Counters
	lockMasters       *lockMasters
	locks             *locking.Manager
	publisher         *notifier.BackgroundPublisher
	health            *health       // watches from the first start of a worker on
	gated             []string      // task queues with a slot gate
	busy              inflight      // activities that use the runtime, of all workers
	done              chan struct{} // closed when everything is
	inspected         atomic.Bool   // Redis was looked at closely and found good

	subscribe sync.Once
	hub       *notifier.Hub
	hubErr    error
	newHub    func() (*notifier.Hub, error)
}

// open makes the runtime without any network I/O.
func open(ctx context.Context, o Options, temporalNamespace string) (_ *runtime, err error) {
	rt := &runtime{log: o.Logger, gated: o.GatedTaskQueues, done: make(chan struct{})}
	if o.Redis.Namespace == "" {
		rt.temporalNamespace = temporalNamespace
		o.Redis.Namespace = keys.NamespaceFor(temporalNamespace)
	}
	namespace := o.Redis.Namespace
	rt.options = o.Redis
	defer func() {
		if err != nil {
			err = errors.Join(err, rt.close(ctx))
		}
	}()
	if o.Redis.Name == "" {
		o.Redis.Name = configsName
	}
	if rt.conn, err = redisstate.Connect(ctx, o.Redis); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	redis := rt.conn.Client()
	if rt.store, err = redisstate.NewStore(redis, o.Redis); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if rt.sessions, err = redisstate.NewSessions(redis, o.Redis); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if rt.counters, err = redisstate.NewCounters(redis, o.Redis); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if rt.lockMasters, err = openLockMasters(ctx, o); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	rt.health = newHealth(rt.conn, rt.lockMasters)
	if rt.locks, err = locking.NewQuorum(rt.lockMasters.clients(redis), o.locks(namespace)); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if rt.publisher, err = notifier.NewPublisher(redis, o.events(namespace)); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	rt.newHub = func() (*notifier.Hub, error) { return notifier.NewSubscriber(redis, o.subscriptions(namespace)) }
	return rt, nil
}

// check asks Redis, and a majority of the lock masters, whether it answers. Until it was found good once, it is asked
// closely: version, role, memory policy, persistence (redisstate.Conn.Inspect),
// also when it was away at the start.
func (rt *runtime) check(ctx context.Context) error {
	locks := make(chan error, 1)
	go func() { locks <- rt.lockMasters.check(ctx) }()
	errs := []error{rt.checkConfigs(ctx), <-locks}
	for _, err := range errs {
		if err != nil && !errors.Is(err, redisstate.ErrUnavailable) {
			return err // does not pass by itself
		}
	}
	return errors.Join(errs...)
}

func (rt *runtime) checkConfigs(ctx context.Context) error {
	if rt.inspected.Load() {
		return rt.conn.Check(ctx)
	}
	_, err := rt.conn.Inspect(ctx)
	if err == nil {
		rt.inspected.Store(true)
	}
	return err
}

// looked tells whether everything was looked at closely and found good.
func (rt *runtime) looked() bool { return rt.inspected.Load() && rt.lockMasters.looked() }

func (rt *runtime) resources() interceptors.Resources {
	return interceptors.Resources{
		Store: rt.store, Sessions: rt.sessions, Locks: rt.locks, Publisher: rt.publisher, TemporalNamespace: rt.temporalNamespace,
		Health: rt.conn.Health(), LockHealth: rt.health, GatedFor: rt.gatedFor,
	}
}

// gatedFor is for how long the slot gate of a task queue was closed since then.
func (rt *runtime) gatedFor(taskQueue string, since time.Time) time.Duration {
	if !slices.Contains(rt.gated, taskQueue) {
		return 0
	}
	return rt.health.awaySince(since)
}

func (rt *runtime) subscriber() (*notifier.Hub, error) {
	rt.subscribe.Do(func() { rt.hub, rt.hubErr = rt.newHub() })
	return rt.hub, rt.hubErr
}

// closed tells whether everything is.
func (rt *runtime) closed() bool {
	select {
	case <-rt.done:
		return true
	default:
		return false
	}
}

// await waits until a retired runtime is closed.
func (rt *runtime) await(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-rt.done:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	if rt.closed() { // meanwhile, or long ago
		return nil
	}
	return rt.stillBusy()
}

func (rt *runtime) stillBusy() error {
	return fmt.Errorf("worker: close: %d activities still run; Redis closes when the last one has ended", rt.busy.count())
}

// flush gives buffered events limit to reach Redis.
func (rt *runtime) flush(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := rt.publisher.Flush(ctx); err != nil {
		rt.log.Warn("events not flushed in time", "op", "flush", "family", "events", "error", err)
	}
}

// retire closes the runtime as soon as no activity uses it: now, or in the
// background after the last one.
func (rt *runtime) retire(ctx context.Context, limit time.Duration) {
	ctx = context.WithoutCancel(ctx)
	end := func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := rt.close(ctx); err != nil {
			rt.log.Warn("Redis not closed cleanly", "op", "close", "error", err)
		}
	}
	idle := rt.busy.whenIdle()
	select {
	case <-idle:
		end()
	default:
		go func() {
			<-idle
			end()
		}()
	}
}

// close closes what is open. It is called once. What needs Redis to end comes
// first and side by side, so that neither uses up the other's time.
func (rt *runtime) close(ctx context.Context) error {
	defer close(rt.done)
	var published, unlocked error
	var wg sync.WaitGroup
	if rt.publisher != nil {
		wg.Go(func() { published = rt.publisher.Close(ctx) })
	}
	if rt.locks != nil {
		wg.Go(func() { unlocked = rt.locks.Close(ctx) })
	}
	wg.Wait()
	errs := []error{published, unlocked}
	rt.subscribe.Do(func() { rt.hubErr = ErrClosed })
	if rt.hub != nil {
		errs = append(errs, rt.hub.Close())
	}
	if rt.store != nil {
		errs = append(errs, rt.store.Close())
	}
	if rt.sessions != nil {
		errs = append(errs, rt.sessions.Close())
	}
	if rt.counters != nil {
		errs = append(errs, rt.counters.Close())
	}
	if rt.health != nil {
		rt.health.close()
	}
	if rt.lockMasters != nil {
		errs = append(errs, rt.lockMasters.close())
	}
	if rt.conn != nil {
		errs = append(errs, rt.conn.Close())
	}
	return errors.Join(errs...)
}
