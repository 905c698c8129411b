// Package health knows whether Redis can be used: one Monitor for each client,
// told by the client's own traffic and by a probe of its own.
//
// A Monitor is in one of four states:
//
//	Unknown    nothing was asked yet, or it was not started
//	Up         the last word was good
//	Degraded   something failed and it is not clear yet what that means, or a part
//	           of the masters of a Cluster is away
//	Down       Redis does not serve us: what needs it has to wait
//
// It promises:
//
//   - The first failure of traffic makes it Degraded and probes at once. It takes two
//     failures in a row to be Down, one of which is the probe's: a burst of time-outs
//     is one hiccup, whatever their number, and a permission that one command lacks
//     takes nothing down while the probe is answered.
//   - The probe writes, so that what still answers reads and PING and refuses writes
//     (a replica, a full memory, a missing replica, a disk that fails, a Cluster
//     without a slot) is Down too. On Cluster it writes to each master: Down is when
//     none of them takes it.
//   - The probe has a connection of its own, made from the client's options, and a
//     deadline of one second: neither the client's retries nor a pool full of
//     hanging connections delays it, and a connection that failed is not used again.
//   - From Down it takes two good probes 50 to 100 ms apart to be Up again. While
//     Down it probes about ten times a second (twice, if Redis refuses the user),
//     one at a time, so that a Redis that recovers is not run over.
//   - It costs Redis nothing while traffic is answered, and one write a second
//     otherwise. A success costs the caller an atomic load, and a store at times.
//   - One line in the log when Redis goes and one when it is back; none between,
//     but for an access that is refused, which is an error, said once an outage. No
//     line, metric or Status holds a part of an error's text.
//
// The probe's key lives in the namespace of all other keys and expires by itself. A
// user who may write everything of ours but this key is served nevertheless: if the
// probe was never allowed to write, and PING is answered, it pings, and says so once.
//
// Not for: the check at start, which looks closer and tells an operator what to do
// (redisstate.Conn.Inspect), and not for deciding whether one operation is tried
// again: its own error says that (package rediserr).
package health
