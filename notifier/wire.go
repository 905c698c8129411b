package notifier

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// entry is an event as it stands in the log and in PUBLISH. It carries no epoch
// and no id: those follow from its place in the log.
type entry struct {
	Event
	// Source and Number tell an event that was appended twice, because the
	// reply to the first time was lost: a source's numbers rise.
	Source string `json:"source,omitempty"`
	Number int64  `json:"number,omitempty"`
}

// encode gives the stable JSON form, with text left readable.
func (e *entry) encode() (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return "", fmt.Errorf("notifier: encode event: %w", err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), nil
}

// decode reads a body of the log. What a subscriber sets itself is taken from
// nobody else.
func decode(body string) (*entry, error) {
	e := new(entry)
	if err := json.Unmarshal([]byte(body), e); err != nil {
		return nil, fmt.Errorf("notifier: decode event: %w", err)
	}
	e.Epoch, e.ID, e.Snapshot, e.Origin = "", 0, false, ""
	e.Time = e.Time.UTC()
	return e, nil
}

// normalize copies what the caller may still change and leaves out what is not
// the publisher's to say.
func normalize(ev *Event) {
	ev.Epoch, ev.ID, ev.Snapshot, ev.Origin = "", 0, false, ""
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	ev.Time = ev.Time.Round(0).UTC() // Round strips the monotonic reading
	ev.Data = bytes.Clone(ev.Data)
}
