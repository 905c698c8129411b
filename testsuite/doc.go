// Package testsuite is what users of the plugin test with.
//
// One call gives Temporal's own test environments with the plugin on an
// embedded Redis, without a container:
//
//	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
//	env.RegisterActivity(charge)
//	refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: cfg})
//	env.ExecuteWorkflow(checkout, refs[0])
//
// Package testsuite/contract holds the suites that every implementation of a
// ConfigStore, a LockManager or a Publisher and Subscriber has to pass.
//
// Promises: each environment has a Redis of its own, nothing of the shell's
// REDIS_* reaches it, and everything ends with the test.
//
// Not for: evidence about locks, fail-over or latency. The embedded Redis is
// one goroutine in the test's process; use a real redis-server for those.
//
// A trap of Temporal's test environments: an activity mocked with
// OnActivity(...).Return(value) skips the activity interceptors, ours included;
// one mocked with a function runs them.
package testsuite
