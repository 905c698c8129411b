// Package contract holds the promises of redisstate.ConfigStore,
// locking.LockManager and notifier's Publisher and Subscriber as tests that run
// on any implementation: ours, on embedded Redis and on redis-server, or a
// host's own.
//
// Each suite takes a function that opens a fresh backend. Its tests run in
// parallel, each on a backend of its own, and wait for events rather than for
// time. A suite that passes says that the interface is kept; what a backend does
// when servers die or networks split is for tests that can make them do so.
//
// Not for: programs. The package imports testing.
package contract
