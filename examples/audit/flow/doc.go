// Package flow runs a workflow file on Temporal: one workflow that walks the
// tasks, and the activities that do what a task says.
//
// It promises that task configs stay out of Temporal's history. The workflow is
// started with one ref, gets the shape of its tasks (ids, edges, refs) from an
// activity, and schedules every activity with the ref of its config; the
// plugin reads the config before the activity starts. Children of parallel and
// collection tasks, which nobody could know before, have their configs saved
// by the activity that makes them. What does enter history are the outputs of
// tools, so these are kept small.
//
// Redis is a cache to it: what Redis loses in mid-run, Source makes again from
// the workflow file and from the outputs in Temporal's history.
//
// Not for: outputs of many megabytes; a tool writes those to a file and returns
// its name.
package flow
