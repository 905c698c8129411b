package notifier

// position is a place in a workflow's event log: after the entry id of epoch.
// The zero value is before the first entry of whatever epoch comes.
type position struct {
	epoch string
	id    int64
}
