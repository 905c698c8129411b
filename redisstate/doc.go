// Package redisstate connects to Redis and keeps configs there: it is the
// module's ConfigStore.
//
// A config is JSON under an id. Saving one gives a Ref, which is the id and the
// SHA-256 digest of the canonical JSON. What refers to a config passes the Ref
// on, and the content stays out of workflow histories.
//
// # What it promises
//
//   - Reading by Ref gives exactly the content that was saved, or an error;
//     never other content, whoever overwrites the id meanwhile. When an id is
//     overwritten with other content, the old content is put aside in the same
//     transaction (on Cluster before it, see Store.Set for the one instant that can
//     miss there), where refs to it still find it.
//   - Every config expires (24 hours unless said otherwise). Expiry is the only
//     automatic clean-up. What is read stays: a read extends the life, without a
//     write per read (Options.FixedTTL turns that off). Extend and ExtendWorkflow
//     extend at once, and nothing but a Delete or Redis itself shortens a life.
//   - With Options.Source, what is gone is regenerated: one load per key at a
//     time, never in an outage, never overwriting what Redis has, and never other
//     content than a ref names.
//   - Nothing is written when any entry of a call is invalid: ids, sizes and
//     encoding are checked before the first byte goes out.
//   - An error tells by errors.Is what to do: ErrUnavailable passes by itself,
//     ErrDenied needs an operator, ErrNotFound needs the config to be saved
//     again, and the others are about one value or one call.
//   - Passwords and values appear in no error, log, metric, span or key name; of
//     an id only the start, in the error that refuses it.
//
// # Where a read is answered
//
//	Get(Ref) -> near cache --hit--> answered in process, no Redis needed
//	            |miss
//	            v
//	            config:<id> --same digest--> answered, kept near
//	            |other or no content
//	            v
//	            config:<id>@<digest> --found--> answered, kept near
//	            |nothing
//	            v
//	            Options.Source, else ErrNotFound (a MissingError)
//
//	Get(ID) -> config:<id>, always from Redis: the current content, unless
//	           Options.NearCacheByKey lets memory answer
//
// Content under a digest cannot change, so the near cache needs no invalidation
// for refs. It holds decoded values too: while it is in there a content is
// decoded once per type and shared. Treat what Decode returns as read-only.
//
// # Connections
//
// Options.URL, or REDIS_URL, has one of these forms; rediss instead of redis
// means TLS, a port that is left out is 6379 (sentinels: 26379):
//
//	redis://[user][:password]@host[:port][/db]
//	unix://[user][:password]@/path/of/socket[?db=0]
//	redis+sentinel://[user][:password]@host[:port],...[/master[/db]]
//	redis+cluster://[user][:password]@host[:port],...
//	embedded://[name]
//
// Special characters of user, password and path are percent-encoded. Parameters
// behind '?', joined by '&': db, client_name, dial_timeout, read_timeout,
// write_timeout, pool_timeout, idle_timeout (durations like 3s), pool_size,
// min_idle_conns, max_retries. Options in code win over the URL.
//
// embedded runs a Redis inside the process, for tests and demos: connections
// with the same name share it, and it ends with the last of them. It keeps
// nothing and is not fast.
//
// Conn.Inspect is the look at the server when a process starts, Conn.Check asks
// whether it answers now, and Conn.Health knows, once started, without asking.
//
// # Keys
//
// Under the namespace: config:<id> (current content), config:<id>@<digest>
// (overwritten content), index:<workflow> and index:<workflow>@aside (the ids and
// the overwritten contents of a workflow; hints that are pruned when they are
// read), metadata:<name>, session:<execution> (hash of a run's values), @counters
// and @gauges (hashes; 30 days after the last write), @health:{<n>} (what Health
// writes). Ids and names are percent-encoded.
//
// # Not for
//
// Secrets in ids: key names are visible to every Redis user. Large blobs: see
// Options.MaxConfigBytes. A source of truth: Redis may lose what it was given
// last, so keep the means to make a config again. Locks and events: see the
// packages locking and notifier.
package redisstate
