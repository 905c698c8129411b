// Package activities is what workflow and activity authors call, and the
// activities that the plugin registers on every worker.
//
// Inside an activity: Config gives the typed, decoded config that the call's
// ref names; Store and SaveConfigs reach the config store, for configs that
// arise at run time; Session holds values that the activities of one run share;
// Progress tells subscribers how far the work is; Fence is the number to write
// beside anything a critical activity changes elsewhere.
//
// Inside a workflow: PinConfigs turns config ids into refs, and DeleteConfigs
// removes a workflow's configs, both as activities of stable names, so that a
// workflow needs no activity of its own for either.
//
// Promises: what Config returns is shared and read-only, and is exactly the
// content its ref names; nothing here puts a config into Temporal's history.
//
// Not for: large results. What a tool produces belongs in the host's own store.
package activities
