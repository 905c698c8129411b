// Package interceptors is what happens around every workflow and activity of a
// worker that has the plugin.
//
// An activity passes through a short chain of steps, each in a file of its own,
// from outside in:
//
//	attempts      the host's attempts and time-outs are held, those of outages left out
//	availability  errors of Redis become retryable, bare ApplicationErrors
//	status        the attempt's transitions are published
//	hold          the attempt waits in its slot while Redis is away
//	config        the config named by the header's ref is read and put in the context
//	lock          a critical activity gets its workflow's lease, and a context that dies with it
//	enter         the host's time-outs begin, heartbeats are the user's
//	user          the activity's own code
//
// Which steps an activity type gets is data, a Policy per type, which workflow
// code can override per call with WithPolicy. An activity that uses nothing of
// ours runs as if the plugin were not there, unless its worker is of another
// Temporal namespace than the one that the keys are named after: that is refused.
//
// Promises: workflow code does no I/O and adds no command and no event to
// history, so a history recorded without the plugin replays with it and the
// other way round (headers are the only difference); publishing never blocks
// and never fails a workflow or an activity; an error that means "Redis is away"
// reaches Temporal as a retryable ApplicationError of type RedisUnavailable; an
// attempt that ends so before user code uses none of the attempts that the host
// allowed (docs/pausing.md has the exceptions).
//
// Limits: what workflow code publishes of its end goes out when the code
// returns, just before the server accepts it. A completion that the server
// refuses (a signal came meanwhile, the worker died) is followed by RUNNING of
// the same run and by the end that counts. PENDING is published for what this
// module's client starts and for activities, not for child workflows and
// schedules, whose RUNNING is their first event.
//
// Not for: business retries, or for keeping two workflows apart (the lease is
// per workflow; take one of locking's own for anything wider).
package interceptors
