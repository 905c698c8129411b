package notifier

// Status is how far a workflow or a task is, in Compozy's words.
type Status string

// The statuses. The worker's SUCCESS, FAILED, TIMED_OUT and CANCELED speak of
// one attempt; with Event.Final they speak of the task or the workflow.
const (
	StatusPending  Status = "PENDING"   // accepted, nothing runs yet
	StatusRunning  Status = "RUNNING"   // user code runs
	StatusWaiting  Status = "WAITING"   // waits for something of ours, such as a lock
	StatusPaused   Status = "PAUSED"    // waits for an outage to end
	StatusSuccess  Status = "SUCCESS"   // ended well
	StatusFailed   Status = "FAILED"    // ended with an error
	StatusTimedOut Status = "TIMED_OUT" // ended by a time-out
	StatusCanceled Status = "CANCELED"  // ended by a cancellation
)

// Ranks of statuses within one attempt.
const (
	rankUnknown = iota
	rankPending
	rankActive
	rankTerminal
)

// Valid reports whether s is one of the eight statuses.
func (s Status) Valid() bool { return s.Rank() != rankUnknown }

// Terminal reports whether nothing follows s within the same attempt.
func (s Status) Terminal() bool { return s.Rank() == rankTerminal }

// Rank orders the statuses of one attempt: PENDING is 1; WAITING, RUNNING and
// PAUSED are 2, since an attempt may go back and forth between them; the
// terminal ones are 3; anything else is 0. Of two events of the same attempt
// and rank the later one counts.
func (s Status) Rank() int {
	switch s {
	case StatusPending:
		return rankPending
	case StatusWaiting, StatusRunning, StatusPaused:
		return rankActive
	case StatusSuccess, StatusFailed, StatusTimedOut, StatusCanceled:
		return rankTerminal
	}
	return rankUnknown
}
