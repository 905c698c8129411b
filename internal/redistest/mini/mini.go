// Package mini starts embedded servers that tests stop and start again.
//
// The system gives a listener without a port of its own one that outgoing connections
// use too: when such a server is stopped, any of them may take its port, and then it
// cannot start again. These have ports that the tests of all processes share out.
//
// It is not for what miniredis proves nothing about: see package redistest.
package mini

import (
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/temporal-redis/internal/loopback"
)

// Start runs an empty server until the end of the test. Its time moves by FastForward.
func Start(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	var server *miniredis.Miniredis
	port, err := loopback.Listen(func(port int) error {
		server = miniredis.NewMiniRedis()
		return server.StartAddr(loopback.Address(port))
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		server.Close()
		loopback.Release(port)
	})
	return server
}

// Restart starts a server again that was stopped, on its port. A process that is being
// forked has the listener for a moment, until it is another program.
func Restart(tb testing.TB, server *miniredis.Miniredis) {
	tb.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := server.Restart(); err != nil {
		tb.Fatal(err)
	}
}
