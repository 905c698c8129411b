// Package leak holds what our tests tell goleak to overlook, in one place.
//
// Not for: goroutines of our own. Those end, or a test fails.
package leak

import "go.uber.org/goleak"

// DeadDial overlooks go-redis' attempts to reach a server that is gone: they end
// within a second after the client's Close (pool.tryDial sleeps that long
// between two looks), which is longer than goleak waits.
func DeadDial() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
}
