package redisstate

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// redacted is what an Options shows of itself: where it leads and under which
// prefix, nothing that opens a door.
func (o Options) redacted() string {
	place := "the host's client"
	if o.Client == nil {
		if t, err := parseURL(o.URL); err == nil {
			place = t.endpoint()
		} else {
			place = "no usable URL"
		}
	}
	return fmt.Sprintf("redisstate.Options{%s, namespace %q, secrets and the rest left out}", place, o.Namespace)
}

// Format prints where the options lead, whatever the verb: options hold
// passwords, which belong into no log.
func (o Options) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, o.redacted()) }

// LogValue is Format for slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.redacted()) }

// MarshalJSON is Format for JSON: options are not made to be stored.
func (o Options) MarshalJSON() ([]byte, error) { return json.Marshal(o.redacted()) }
