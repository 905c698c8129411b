// Package worker is the Temporal plugin that puts Redis under a worker. Most
// users import nothing else:
//
//	plugin, err := worker.NewPlugin(worker.Options{})
//	c, err := client.Dial(client.Options{Plugins: []client.Plugin{plugin}})
//	w := sdkworker.New(c, "compozy", sdkworker.Options{})
//
// States of a plugin:
//
//	new      -> NewPlugin checked the options; nothing is connected
//	running  -> a worker started (StartWorker connects and checks), or the host
//	            used the client or an accessor (connects without a check)
//	draining -> StopWorker: the worker no longer polls, its activities still run
//	idle     -> the last worker's activities have ended and Redis is closed; the
//	            next start goes back to running
//	closed   -> Close; final
//
// Promises: the same plugin may be put on a client, on its workers, or on both,
// and acts once; one plugin serves any number of workers and clients of one
// Temporal namespace; nothing closes under a running activity; a worker whose
// Redis refuses the password, the ACL or TLS does not start; a worker whose
// Redis is away starts, says so, and is not ready until Redis answers. From then on
// the health of every connection is watched, and /readyz is red while the Redis of
// the configs, or a majority of the lock masters, is away or refuses the user; on
// Options.GatedTaskQueues a worker takes no activities while Redis is away, but
// for those that its polls were out for, and stops as quickly as otherwise.
//
// Not for: two Temporal namespaces at once (make a plugin for each), or for
// sharing Redis keys with anything else (give those a prefix of their own).
package worker
