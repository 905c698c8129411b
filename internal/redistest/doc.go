// Package redistest starts real redis-server processes for our own tests, the
// demo and the benchmarks.
//
// It promises: a server of its own on a free loopback port, configured by the
// caller only (no config file, environment or data of the machine), in a
// temporary directory of its own, answering when Start returns, proven to be
// this very process by its process id, and dead when the test or the program
// ends in whatever way. A machine without redis-server is a failure that names
// the remedy, never a skip.
//
// States of a Server: running, paused (Pause: it keeps its connections and
// answers nothing), down (Kill, Shutdown). Restart brings it back from any
// state on the same port and directory; what it remembers is decided by the
// configuration, by default nothing.
//
//	server := redistest.Start(t, redistest.WithPassword("s3cret"))
//	client := server.Client(t)
//
// Not for: users of the plugin, who test on embedded Redis or on servers of
// their own; nor for anything that must keep its data.
package redistest
