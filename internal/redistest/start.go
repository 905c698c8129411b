//go:build unix

package redistest

import (
	"os"
	"testing"
)

// Start runs a server for the test and ends it with the test. It fails the
// test when the machine has no redis-server or the server does not come up.
// When the test fails, the end of the server's log is in its output.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	dir := scratch(tb)
	server, err := Run(tb.Context(), dir, append(opts, WithScratch(dir))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		server.Close()
		if tb.Failed() {
			tb.Logf("end of the log of redis-server on %s:\n%s", server.Addr(), server.logTail(0))
		}
	})
	return server
}

// scratch is a directory of the test with a short path.
func scratch(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "redistest-") //nolint:usetesting // a long test name makes a path too long for a socket
	if err != nil {
		tb.Fatalf("redistest: make directory: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// MustRestart is Restart for tests.
func (s *Server) MustRestart(tb testing.TB) {
	tb.Helper()
	if err := s.Restart(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}
