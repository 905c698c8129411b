// Package notifier tells whoever listens what a workflow and its tasks are
// doing, while they do it.
//
// # The log is the truth, PUBLISH is the bell
//
// Each workflow id has a log in Redis, the last 500 events by default, and a
// snapshot, the current state of each task. A publisher changes both and rings
// the channel workflow:<id> in one MULTI, thus in one round trip and as one
// step: ids have no holes and cannot invert. Redis' pub/sub loses what it cannot
// deliver; therefore a Hub takes a message only as a bell and reads the log,
// where nothing is lost that Redis still has.
//
//	publisher   queue -> MULTI{seq, log, snapshot, PUBLISH} -> done
//	              ^  |                 | no answer
//	              |  +- full: squeeze  v
//	              +---------------- keep, wait, look whether it happened
//
//	hub         bell, idle tick or reconnection -> read the log -> in memory -> each subscription
//	                                                   | does not go on
//	                                                   v
//	                                         gap, snapshot, rest of the log
//
// # States of a subscription
//
//	connecting  Subscribe waits until the channel is confirmed and the log read
//	beginning   a snapshot, or what follows After, or the whole log (FromStart)
//	live        events as they come, from the memory that subscriptions share
//	behind      the consumer was slow: what it missed comes from the log
//	resyncing   the log was trimmed, flushed or went back: a gap, the states that
//	            the log no longer explains, every event that it has; then live
//	ended       Close, the context, or the hub's Close; Err tells which
//
// # Promises
//
//   - Publish never blocks and never fails for Redis' sake. In an outage the
//     buffer keeps the last status of each task as long as it can; what had to
//     be dropped is counted and told to subscribers as a gap. An outage of one
//     shard of a Cluster holds up only what is for it.
//   - A subscription sees rising ids, no event twice, and nothing left out
//     without a gap that says so (after GapRestarted ids begin anew, and what the
//     log has is told again). It recovers by itself from lost, silent and
//     refused connections, and from a Redis that comes back older or empty. (An
//     asynchronous failover that loses the end of a log cannot be seen by a
//     consumer that was not subscribed at that time and comes back by After.)
//   - In the snapshot, and for Event.Supersedes, nothing late replaces a newer
//     state: no PENDING after RUNNING, no end of an attempt that Temporal has
//     given up, nothing after the final word.
//   - A consumer that does not read holds up nobody. All subscriptions of a hub
//     share one pub/sub connection.
//   - After an event that ends its workflow a subscription goes on: the id may
//     be used again. See Event.EndsWorkflow.
//
// # Other programs
//
// The message is the event as JSON (see Event), without epoch and id, so that
// `redis-cli SUBSCRIBE workflow:order-1` is of use. Ids are percent-encoded in
// channel names: "a b" is workflow:a%20b. Plain subscribers may see an event
// twice, told by equal source and number, after a publisher lost a reply.
//
// Not for: commands or work queues (an event is told to all who listen now, or
// within the retention), and not a history of record: that is Temporal's.
package notifier
