package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// What leases are worth is said at the start where it is less than it could be.
func TestTellLocks(t *testing.T) {
	t.Parallel()
	three := []string{"redis://a", "redis://b", "redis://c"}
	for name, test := range map[string]struct {
		urls       []string
		quarantine time.Duration
		says       string
	}{
		"one master":                          {nil, 0, "level=INFO msg=\"leases are on one Redis master"},
		"three masters":                       {three, 0, ""},
		"three masters that wait for longer":  {three, time.Minute, ""},
		"three masters that nobody waits for": {three, -1, "level=WARN msg=\"lock masters that were started again are believed at once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			Options{LockURLs: test.urls, LockQuarantine: test.quarantine, Logger: slog.New(slog.NewTextHandler(&log, nil))}.tellLocks(t.Context())
			if got := log.String(); !strings.Contains(got, test.says) || (test.says == "") != (got == "") || strings.Count(got, "\n") > 1 {
				t.Errorf("it says %q", got)
			}
		})
	}
}
