package redisstate

import (
	"context"
	"sync"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// flights lets all who want the same at the same time wait for one load. The
// load belongs to none of them: it ends early only when all have given up. The
// zero value is ready.
type flights struct {
	mu     sync.Mutex
	calls  map[Key]*flight
	closed bool
}

// flight is one load. config and err are set before done is closed.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // 0: given up, nobody may join
	config  Config
	err     error
}

// do returns what load gives, or ctx's error when ctx ends first.
func (f *flights) do(ctx context.Context, key Key, load func(context.Context) (Config, error)) (Config, error) {
	for {
		c, joined, err := f.join(ctx, key, load)
		if err != nil {
			return Config{}, err
		}
		select {
		case <-c.done:
			if joined {
				return c.config, c.err
			}
		case <-ctx.Done():
			if joined {
				f.leave(c)
			}
			return Config{}, rediserr.Wrap(ctx, opSource, family, ctx.Err())
		}
	}
}

// join finds the load of key or starts it. It reports false for one that was
// given up: wait for its end and ask again, so that there is never more than
// one.
func (f *flights) join(ctx context.Context, key Key, load func(context.Context) (Config, error)) (*flight, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, fail(opSource, ErrClosed)
	}
	if c := f.calls[key]; c != nil {
		if c.waiters == 0 {
			return c, false, nil
		}
		c.waiters++
		return c, true, nil
	}
	loading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &flight{done: make(chan struct{}), cancel: cancel, waiters: 1}
	if f.calls == nil {
		f.calls = make(map[Key]*flight)
	}
	f.calls[key] = c
	go f.run(loading, key, c, load)
	return c, true, nil
}

func (f *flights) run(ctx context.Context, key Key, c *flight, load func(context.Context) (Config, error)) {
	// Stays only if load ends the goroutine instead of returning.
	c.err = fail(opSource, &sourceError{text: "it ended its goroutine"})
	defer func() {
		c.cancel()
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
		close(c.done)
	}()
	c.config, c.err = load(ctx)
}

func (f *flights) leave(c *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiters--; c.waiters == 0 {
		c.cancel()
	}
}

// close cancels what is on its way and refuses the rest.
func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, c := range f.calls {
		c.cancel()
	}
}
