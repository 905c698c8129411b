// Package compozy puts a redisstate store and leases behind Compozy's own
// interfaces for task configs and locks, so that a host replaces each in one line:
//
//	var configs services.ConfigStore = compozy.NewConfigStore(store, compozy.Options[task.Config]{})
//	var locks cache.LockManager = compozy.NewLockManager[cache.Lock](manager, compozy.LockOptions{})
//
// # What it promises
//
//   - The method set and the meaning of each method are Compozy's, down to the
//     texts that its callers look for: "config not found for taskExecID <id>".
//     By errors.Is the same error is ErrNotFound, and redisstate.ErrNotFound.
//   - Get returns a copy of the caller's own. Compozy changes what it got.
//   - Deleting what is not there is no error.
//   - Close ends this adapter only: store and client are the host's, who may
//     share them with others.
//   - Values appear in no error. Ids do, as in Compozy's own.
//
// Locks have Compozy's method set, texts and three errors (a host may give its own
// sentinels beside, see LockOptions). They are renewed until they are released,
// however the context of Acquire ends, and IsHeld compares the clocks.
//
// What differs from Compozy's stores: a config expires (see
// redisstate.Options.TTL), is at most redisstate.Options.MaxConfigBytes long, and
// ids are 1 to 1024 bytes of UTF-8. A JSON document with the same member twice
// is refused.
//
// # Not for
//
// New code: redisstate.ConfigStore has refs, which never give other content,
// and reads that cost no round trip. Compozy's interface reads by id, and a
// private copy costs a decoding each time; locking has leases with a context and a
// fence; notifier has subscriptions that begin with the state and tell what was missed.
package compozy
