// Package mini starts embedded servers that tests stop and start again.
//
// The system gives a listener without a port of its own one that outgoing connections
// use too: when such a server is stopped, any of them may take its port, and then it
// cannot start again. These have ports that the tests of all processes share out.
//
// It is not for what miniredis proves nothing about: see package redistest.
package mini

import (
	"errors"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/temporal-redis/internal/loopback"
)

// portAttempts bounds the ports that are tried: one may be taken before the server listens,
// see package loopback.
const portAttempts = 5

// Start runs an empty server until the end of the test. Its time moves by FastForward.
func Start(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	var server *miniredis.Miniredis
	var port int
	for n := 1; ; n++ {
		var err error
		if port, err = loopback.Port(); err != nil {
			tb.Fatal(err)
		}
		server = miniredis.NewMiniRedis()
		if err = server.StartAddr(loopback.Address(port)); err == nil {
			break
		}
		loopback.Release(port)
		if n == portAttempts || !errors.Is(err, syscall.EADDRINUSE) {
			tb.Fatal(err)
		}
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
