package notifier

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/compozy/temporal-redis/internal/keys"
)

// maxFieldBytes bounds each text field of an event other than the workflow id.
const maxFieldBytes = 1024

// check says what is wrong with an event that is to be published. The error
// names the field and wraps ErrInvalidEvent.
func (e *Event) check(maxData int) error {
	if err := keys.Check("workflow_id", e.WorkflowID); err != nil {
		return fmt.Errorf("notifier: publish: %w: %w", ErrInvalidEvent, err)
	}
	for _, f := range [...]struct{ name, value string }{
		{"run_id", e.RunID}, {"task_id", e.TaskID}, {"activity_id", e.ActivityID}, {"activity_type", e.ActivityType},
		{"reason", e.Reason}, {"traceparent", e.Traceparent},
	} {
		if len(f.value) > maxFieldBytes {
			return wrongEvent("%s is %d bytes long; use at most %d", f.name, len(f.value), maxFieldBytes)
		}
		if !utf8.ValidString(f.value) {
			return wrongEvent("%s is not valid UTF-8", f.name)
		}
	}
	if err := e.checkState(); err != nil {
		return err
	}
	if len(e.Data) > maxData {
		return wrongEvent("data is %d bytes long; use at most %d (PublisherOptions.MaxDataBytes) or publish a reference to it",
			len(e.Data), maxData)
	}
	if e.Data != nil && !json.Valid(e.Data) {
		return wrongEvent("data is not valid JSON; encode it with encoding/json")
	}
	return nil
}

func (e *Event) checkState() error {
	switch {
	case e.Kind != KindStatus && e.Kind != KindProgress && e.Kind != KindGap:
		return wrongEvent("kind is %.32q; use %q, %q or %q", string(e.Kind), KindStatus, KindProgress, KindGap)
	case e.Kind == KindStatus && e.Status == "":
		return wrongEvent("status is empty; an event of kind %q needs one", KindStatus)
	case e.Status != "" && !e.Status.Valid():
		return wrongEvent("status is %.32q; use one of the Status constants", string(e.Status))
	case e.Attempt < 0:
		return wrongEvent("attempt is %d; use 0 (unknown) or more", e.Attempt)
	case e.Call < 0:
		return wrongEvent("call is %d; use 0 (unknown) or more", e.Call)
	}
	if year := e.Time.Year(); year < 0 || year > 9999 {
		return wrongEvent("time has the year %d; use 0 to 9999", year)
	}
	return nil
}

func wrongEvent(format string, args ...any) error {
	return fmt.Errorf("notifier: publish: %w: "+format, append([]any{ErrInvalidEvent}, args...)...)
}
