//go:build unix

package pgtest

import "testing"

// Start runs a server for the test and ends it with the test. When the test
// fails, the server's log is in its output.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	server, err := Run(tb.Context(), settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of the log of PostgreSQL:\n%s", server.logText())
		}
		server.Close()
	})
	return server
}
