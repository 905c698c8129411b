// Package devserver finds, builds and runs Temporal's development server for
// our tests, the demo and the benchmarks.
//
// Finding and providing are two things. Locate looks only: bin/temporal of the
// repository, then a `temporal` of a good version on PATH. Provide, which the
// Makefile calls in its deps targets through internal/deps, goes on
// where Locate ends: the download that the Temporal SDK pins, then a build of
// the pinned tools module, which takes minutes. Both put the program at
// bin/temporal by a rename, so that an interrupted run leaves nothing half
// made.
//
// A Server promises: a process of its own on free loopback ports, in memory,
// with server settings that take the idle waits out of its queues, blind to
// TEMPORAL_* variables and configuration files of the user, healthy when Start
// returns, and dead when this process ends in whatever way.
//
// States of a Server: running, stopped.
//
// Not for: production, nor for data that must outlive the program.
package devserver
