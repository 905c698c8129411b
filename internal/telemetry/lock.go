package telemetry

import "go.opentelemetry.io/otel/attribute"

// Spans of package locking. Their attributes come from the fixed sets below;
// a resource's name is not among them.
const (
	SpanLockAcquire = "lock.acquire"
	SpanLockRelease = "lock.release"
)

// Attributes of the lock spans.
const (
	AttrLockOutcome   = attribute.Key("lock.outcome")   // one of the outcomes below
	AttrLockContended = attribute.Key("lock.contended") // whether another held it
)

// Label values of Metrics.LockAcquire.
const (
	LockAcquired    = "acquired"
	LockContended   = "contended" // still held when the wait was over
	LockUnavailable = "unavailable"
	LockCanceled    = "canceled" // the caller gave up
	LockFailed      = "failed"   // denied, closed, or refused for good
)

// Label values of Metrics.LockLost.
const (
	LostExpired   = "expired"   // no renewal got through in time
	LostGone      = "gone"      // Redis no longer knows the lease
	LostDeadline  = "deadline"  // the holder's own deadline came
	LostSuspended = "suspended" // the machine slept past the lease's end
	LostClosed    = "closed"    // the manager was closed under the holder
)
