package notifier

import (
	"encoding/json"
	"strconv"
	"time"
)

// Kind says what an event is about.
type Kind string

const (
	// KindStatus is a transition of a task or of the workflow itself.
	KindStatus Kind = "status"
	// KindProgress carries data about a running task.
	KindProgress Kind = "progress"
	// KindGap says that events are missing here, and why (Event.Reason is one
	// of the Gap... words). After a gap that the subscriber found, a snapshot
	// follows; one that a publisher reports stands in the log with an id.
	KindGap Kind = "gap"
)

// Reasons of gaps.
const (
	// GapTrimmed: the log no longer holds what comes next. A snapshot follows.
	GapTrimmed = "log trimmed"
	// GapRestarted: the log is another one than before (flushed, expired, lost
	// in a failover). A snapshot follows.
	GapRestarted = "log restarted"
	// GapDropped: a publisher dropped events, since it ran out of buffer or Redis
	// will never take them; Data holds their number as {"dropped":n}. The last
	// status of each task is kept as long as the buffer allows.
	GapDropped = "publisher dropped events"
)

// Event is one entry of a workflow's event log. The JSON form is stable: fields
// may be added, none changes its name or meaning.
//
// Publishers fill in what they know; Epoch, ID, Previous, Snapshot and Origin are
// set by the Subscriber and ignored by Publish.
type Event struct {
	// Epoch names the incarnation of the log. Ids of different epochs have
	// nothing to do with each other.
	Epoch string `json:"epoch,omitempty"`
	// ID rises within the epoch of a workflow id. A subscriber sees rising ids,
	// not necessarily consecutive ones, since repeats are left out. It is 0
	// where the event has no place in the log: gaps found by the subscriber,
	// and snapshot events older than the log.
	ID int64 `json:"id,omitempty"`
	// Kind defaults to KindStatus.
	Kind Kind `json:"kind"`
	// WorkflowID is the id under which events are published and subscribed.
	WorkflowID string `json:"workflow_id"`
	// RunID is Temporal's run id.
	RunID string `json:"run_id,omitempty"`
	// TaskID is the host's name of the task, "" for the workflow itself.
	TaskID string `json:"task_id,omitempty"`
	// Call is the rising number of the activity call within its run, 0 when it
	// was scheduled without the plugin.
	Call int64 `json:"call,omitempty"`
	// ActivityID is Temporal's activity id, where known.
	ActivityID string `json:"activity_id,omitempty"`
	// ActivityType is Temporal's activity type, where known.
	ActivityType string `json:"activity_type,omitempty"`
	// Attempt counts from 1; 0 means that no attempt is known, as for the
	// workflow itself and for what workflow code says of a task.
	Attempt int32 `json:"attempt,omitempty"`
	// Status is required for KindStatus.
	Status Status `json:"status,omitempty"`
	// Previous is the task's status before this event, "" when unknown.
	Previous Status `json:"previous_status,omitempty"`
	// Reason is one line for people: why WAITING, what failed.
	Reason string `json:"reason,omitempty"`
	// Final marks the last word on a task or workflow, as opposed to the end of
	// an attempt.
	Final bool `json:"final,omitempty"`
	// Snapshot marks the current state of a task, sent to a subscriber that has
	// not seen how it came about.
	Snapshot bool `json:"snapshot,omitempty"`
	// Origin is "" for what a publisher said, and OriginSource for what a
	// StatusSource said: that has no ID.
	Origin string `json:"origin,omitempty"`
	// Time is when the event happened, in UTC. Defaults to the time of Publish.
	Time time.Time `json:"time"`
	// Traceparent is the W3C trace context of what happened.
	Traceparent string `json:"traceparent,omitempty"`
	// Data is JSON of the publisher's own, bounded by
	// PublisherOptions.MaxDataBytes. It is shared between subscribers:
	// read-only.
	Data json.RawMessage `json:"data,omitempty"`
}

// TaskKey identifies what the event is about: one activity call of one run, or
// the run itself. Workflow code, which cannot know Temporal's activity id, and
// the worker agree on it by Call.
func (e Event) TaskKey() string {
	switch {
	case e.Call > 0:
		return e.RunID + "/#" + strconv.FormatInt(e.Call, 10)
	case e.ActivityID != "":
		return e.RunID + "/" + e.ActivityID
	}
	return e.RunID + "/" + e.TaskID
}

// OfWorkflow reports whether the event is about the workflow itself rather than
// one of its tasks.
func (e Event) OfWorkflow() bool {
	return e.TaskID == "" && e.ActivityID == "" && e.Call == 0
}

// EndsWorkflow reports whether the event is the last word on its run. A
// subscription goes on after it: the id may be used again by another run (retry,
// continue-as-new, reset), and who wants to stop closes it.
func (e Event) EndsWorkflow() bool {
	return e.Kind == KindStatus && e.OfWorkflow() && e.Final && e.Status.Terminal()
}

// Supersedes reports whether e, which came after prev, is the newer state of
// the same task. It is false for other tasks, and for what comes late: a
// PENDING after RUNNING, the end of an attempt that Temporal has given up, or
// anything after the final word. Viewers that keep a row per TaskKey use it.
func (e Event) Supersedes(prev Event) bool {
	return e.TaskKey() == prev.TaskKey() && scoreOf(&e) >= scoreOf(&prev)
}
