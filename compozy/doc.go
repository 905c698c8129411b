// Package compozy puts a redisstate store behind Compozy's own interface for
// task configs, so that a host replaces its store in one line:
//
//	var configs services.ConfigStore = compozy.NewConfigStore(store, compozy.Options[task.Config]{})
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
// What differs from Compozy's stores: a config expires (see
// redisstate.Options.TTL), is at most redisstate.Options.MaxConfigBytes long, and
// ids are 1 to 1024 bytes of UTF-8. A JSON document with the same member twice
// is refused.
//
// # Not for
//
// New code: redisstate.ConfigStore has refs, which never give other content,
// and reads that cost no round trip. Compozy's interface reads by id, and a
// private copy costs a decoding each time. Compozy's locks and notifications:
// see the packages locking and notifier.
package compozy
