package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/client"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

// Errors of the plugin's life.
var (
	// ErrClosed says that the plugin was closed.
	ErrClosed = errors.New("the Redis plugin is closed; make a new one")
	// ErrNotRunning says that no worker of the plugin runs.
	ErrNotRunning = errors.New("the Redis plugin is not running")
	// ErrWorkersRunning says that Close came before the workers' Stop.
	ErrWorkersRunning = errors.New("workers of the Redis plugin are still running; stop them before Close")
)

// workerState is what the plugin knows of one worker instance. It stays for the
// life of the plugin: a test environment starts and stops one instance often.
type workerState struct {
	starts int // nested starts: the plugin may be on client and worker
	busy   inflight
}

// worker finds or makes the state of an instance; first tells which.
func (p *Plugin) worker(key string) (state *workerState, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workerLocked(key)
}

func (p *Plugin) workerLocked(key string) (state *workerState, first bool) {
	state, known := p.workers[key]
	if !known {
		state = &workerState{}
		p.workers[key] = state
	}
	return state, !known
}

// start counts a start of the worker and connects and checks Redis on its first
// one. An outage is an error only with FailFast; denial always is.
func (p *Plugin) start(ctx context.Context, key string) (first bool, err error) {
	p.mu.Lock()
	rt, err := p.openLocked(ctx)
	if err != nil {
		p.mu.Unlock()
		return false, err
	}
	state, _ := p.workerLocked(key)
	state.starts++
	p.running++
	first = state.starts == 1
	p.mu.Unlock()
	if !first {
		return false, nil
	}
	if err := p.check(ctx, rt); err != nil {
		p.stop(ctx, key)
		return false, err
	}
	rt.health.start()
	p.tellLocks.Do(func() { p.options.tellLocks(ctx) })
	return true, nil
}

func (p *Plugin) check(ctx context.Context, rt *runtime) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.StartTimeout)
	defer cancel()
	err := rt.check(ctx)
	if err == nil {
		return nil
	}
	if p.options.FailFast || !errors.Is(err, redisstate.ErrUnavailable) {
		return fmt.Errorf("worker: start: %w", err)
	}
	p.options.Logger.Warn("the worker starts without Redis and is not ready until it answers",
		"op", "start", "error", err)
	return nil
}

// stop takes back one start of the worker. The last one waits for the worker's
// running activities; the plugin's last one closes Redis unless the host holds
// it. A stop without a start does nothing.
func (p *Plugin) stop(ctx context.Context, key string) {
	p.mu.Lock()
	state, known := p.workers[key]
	if !known || state.starts == 0 {
		p.mu.Unlock()
		return
	}
	state.starts--
	last := state.starts == 0
	p.mu.Unlock()
	if last && !state.busy.wait(ctx, p.options.DrainTimeout) {
		p.options.Logger.Warn("activities still run after the drain time-out; Redis closes when the last one has ended",
			"op", "stop", "activities", state.busy.count(), "drain_timeout", p.options.DrainTimeout)
	}

	p.mu.Lock()
	p.running--
	rt := p.rt
	idle := p.running == 0 && rt != nil
	if idle && !p.held {
		p.rt = nil
	}
	held := p.held
	p.mu.Unlock()
	switch {
	case idle && held:
		rt.flush(ctx, p.options.FlushTimeout)
	case idle:
		p.retire(ctx, rt)
	}
}

// retire closes rt now or after its last activity. Close waits for it.
func (p *Plugin) retire(ctx context.Context, rt *runtime) {
	p.mu.Lock()
	p.retired = slices.DeleteFunc(p.retired, (*runtime).closed)
	p.retired = append(p.retired, rt)
	p.mu.Unlock()
	rt.retire(ctx, p.options.FlushTimeout)
}

// openLocked returns the running resources, making them if need be. It does no
// network I/O.
func (p *Plugin) openLocked(ctx context.Context) (*runtime, error) {
	if p.closed {
		return nil, ErrClosed
	}
	if p.rt != nil {
		return p.rt, nil
	}
	if p.namespace == "" { // nobody told: from here on the keys are those of the default one
		p.namespace = client.DefaultNamespace
	}
	if p.embedded == nil && strings.HasPrefix(p.options.Redis.URL, "embedded:") {
		conn, err := redisstate.Connect(ctx, p.options.Redis)
		if err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
		p.embedded = conn
	}
	rt, err := open(ctx, p.options, p.namespace)
	if err != nil {
		return nil, err
	}
	p.rt = rt
	return rt, nil
}

// availability tells what the running resources know of Redis: nil while
// nothing runs or nobody has asked Redis.
func (p *Plugin) availability() interceptors.Availability {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rt == nil || p.rt.health == nil {
		return nil
	}
	return p.rt.health
}

// hold opens Redis for the host's own use and keeps it open until Close.
func (p *Plugin) hold(ctx context.Context) (*runtime, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rt, err := p.openLocked(ctx)
	if err == nil {
		p.held = true
	}
	return rt, err
}

// Flush waits until the events published so far have reached Redis, or ctx
// ends. A process that has only a client calls it before it exits.
func (p *Plugin) Flush(ctx context.Context) error {
	p.mu.Lock()
	rt := p.rt
	p.mu.Unlock()
	if rt == nil {
		return nil
	}
	return rt.publisher.Flush(ctx)
}

// Close flushes what is buffered, as long as ctx allows, and closes Redis for
// good. A process calls it once, after its workers stopped: ErrWorkersRunning
// says that they have not, and then nothing is closed. Closing twice is fine.
func (p *Plugin) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.running > 0 {
		p.mu.Unlock()
		return ErrWorkersRunning
	}
	rt, embedded := p.rt, p.embedded
	p.rt, p.embedded, p.closed = nil, nil, true
	retired := p.retired
	p.mu.Unlock()
	var errs []error
	for _, old := range retired {
		errs = append(errs, old.await(ctx, p.options.DrainTimeout))
	}
	if rt != nil {
		errs = append(errs, p.end(ctx, rt))
	}
	if embedded != nil {
		errs = append(errs, embedded.Close())
	}
	return errors.Join(errs...)
}

// end closes rt, now or after the last activity.
func (p *Plugin) end(ctx context.Context, rt *runtime) error {
	if rt.busy.wait(ctx, p.options.DrainTimeout) {
		return rt.close(ctx)
	}
	rt.retire(ctx, p.options.FlushTimeout)
	return rt.stillBusy()
}
