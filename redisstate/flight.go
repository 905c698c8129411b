package redisstate

import (
	"context"
	"fmt"
	"sync"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// flights lets all who want the same at the same time wait for one load. The
// load belongs to none of them: it ends early only when all have given up. The
// zero value with op and family set, for errors, is ready.
type flights[K comparable, V any] struct {
	op, family string

	mu     sync.Mutex
	calls  map[K]*flight[V]
	closed bool
}

// flight is one load. value and err are set before done is closed.
type flight[V any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // 0: given up, nobody may join
	value   V
	err     error
}

// do returns what load gives, or ctx's error when ctx ends first.
func (f *flights[K, V]) do(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	var none V
	for {
		c, joined, err := f.join(ctx, key, load)
		if err != nil {
			return none, err
		}
		select {
		case <-c.done:
			if joined {
				return c.value, c.err
			}
		case <-ctx.Done():
			if joined {
				f.leave(c)
			}
			return none, rediserr.Wrap(ctx, f.op, f.family, ctx.Err())
		}
	}
}

// join finds the load of key or starts it. It reports false for one that was
// given up: wait for its end and ask again, so that there is never more than
// one.
func (f *flights[K, V]) join(ctx context.Context, key K, load func(context.Context) (V, error)) (*flight[V], bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, f.fail(ErrClosed)
	}
	if c := f.calls[key]; c != nil {
		if c.waiters == 0 {
			return c, false, nil
		}
		c.waiters++
		return c, true, nil
	}
	c := &flight[V]{done: make(chan struct{}), waiters: 1}
	var loading context.Context
	loading, c.cancel = context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // run calls it
	if f.calls == nil {
		f.calls = make(map[K]*flight[V])
	}
	f.calls[key] = c
	go f.run(loading, key, c, load)
	return c, true, nil
}

func (f *flights[K, V]) run(ctx context.Context, key K, c *flight[V], load func(context.Context) (V, error)) {
	// Stays only if load ends the goroutine instead of returning.
	c.err = f.fail(&sourceError{text: "it ended its goroutine"})
	defer func() {
		c.cancel()
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
		close(c.done)
	}()
	c.value, c.err = load(ctx)
}

func (f *flights[K, V]) leave(c *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiters--; c.waiters == 0 {
		c.cancel()
	}
}

func (f *flights[K, V]) fail(err error) error { return fmt.Errorf("%s (%s): %w", f.op, f.family, err) }

// close cancels what is on its way and refuses the rest.
func (f *flights[K, V]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, c := range f.calls {
		c.cancel()
	}
}
