// Package pgtest starts real PostgreSQL servers for our own tests and
// benchmarks.
//
// It promises: a cluster of its own, fresh from initdb, of whatever major
// version the machine has, on a free loopback port and a Unix socket, closed to
// everybody without its random password, and dead when the test or the program
// ends in whatever way. PostgreSQL refuses to run as root; for a root user the
// server runs as postgres or nobody, in a directory which that user can enter.
// A machine without PostgreSQL is a failure that names the remedy, never a skip.
//
// States of a Server: running, closed.
//
// Not for: data that matters. fsync is off.
package pgtest
