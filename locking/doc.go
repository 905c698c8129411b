// Package locking gives out leases: the right to a resource, named by a string,
// for a time that is prolonged in the background until the holder gives it back
// or loses it. It stands on bsm/redislock and one Redis master, or a majority of
// several independent ones (Redlock), of version 7.0 or newer. docs/locking.md tells why
// it holds.
//
//	lease, err := manager.Acquire(ctx, "default/order-17")
//	if err != nil { ... }                    // ErrNotAcquired, ErrUnavailable
//	defer lease.Release(ctx)
//	ctx, cancel := lease.Bind(ctx)           // ends when the lease does
//	defer cancel()
//	err = write(ctx, lease.Fence(), ...)     // refused there if a higher one was seen
//
// # States
//
//	            renewal confirmed
//	             (every 10 s)
//	              +-------+
//	              v       |
//	Acquire --> HELD -----+--- Release -------> RELEASED   Context: context.Canceled
//	              |
//	              +-- its time is over (expired, suspended, deadline)
//	              +-- Redis says it is not ours (gone)
//	              +-- Manager.Close (closed)
//	              |
//	              v
//	            LOST                                       Context: ErrLost
//
// A lease is valid for its TTL, less a margin for drift, from the moment at
// which the last confirmed acquisition or renewal was sent. Renewals run on a
// context of their own; one that fails is repeated, with growing pauses, as
// long as the lease is valid. When its time is over the lease ends itself, at
// the latest the margin (TTL/50 + 10 ms) before Redis can give the resource to
// another. Time is read from the monotonic clock and from the wall clock, and
// the one that saw more of it counts, so a machine that was suspended finds its
// leases over. RELEASED and LOST are final.
//
// # What is promised
//
// No two leases of a resource are valid at the same time, as long as no master that
// granted one loses it while it lives (one of several that is started again gives no
// vote until whatever it forgot is over) and the clocks of Redis and the holder do
// not drift apart by more than the margin within one TTL.
//
// Whatever else happens (a flush, a restart without persistence, a fail-over
// that loses writes, a holder that is stopped and goes on), fences rise: a later
// grant has a higher number. A store that remembers the highest number it saw
// and refuses lower ones is therefore safe from a holder that does not know yet
// that it lost, from the moment on at which the later one was there: so a holder
// goes to it before it reads what it will change, too. This rests on the clock of
// Redis, which is the floor of the numbers: a counter that is lost, together with a
// clock that is set back, may start again below it; so may one that is lost within a
// tenth of a second of a grant, and was made again by an attempt that came to nothing
// (a second, where a clock of ours was just set by less than that).
//
// Lease.Follows tells whether anybody was granted in between two leases. A master
// that was started again or took over in between does not say so: it may have
// forgotten one.
//
// # Waiting
//
// Waiters of one Manager stand in line, the first of them asks Redis. Between
// processes the releaser wakes the one that has waited longest, by a ring in
// Redis; a waiter also looks at the lock about once a second, because a holder
// or a waiter that was woken may have died. A releaser that woke somebody goes
// to the end of the line. Where Redis lets nobody listen (embedded Redis, an ACL
// without CLIENT ID) waiters poll, about every tenth of a second after a few quicker
// looks. Of one Manager 64 locks can be listened for at a time on each master, a
// connection each; with more, who has listened longest gives its place in the line up,
// and polls for a second or more until it listens again.
//
// # Not for
//
// Guarding something that cannot check a fence and cannot stand two writers for
// a moment: no lease can, since a holder may be stopped between checking its
// lease and writing. Nor for high-frequency mutual exclusion inside one process
// (sync.Mutex), for re-entrance (a second Acquire waits for the first, or is
// ErrReentrant where the context tells of it), for
// shared or read locks, or for resources whose names are secret: key names are
// visible in Redis.
package locking
