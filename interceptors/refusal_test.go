package interceptors_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
)

// refusingLocks are locks whose Redis refuses the user.
type refusingLocks struct{ locking.LockManager }

func (refusingLocks) Acquire(context.Context, string, ...locking.Option) (*locking.Lease, error) {
	return nil, fmt.Errorf("acquire: %w", locking.ErrDenied)
}

// Who is refused is told loudly by the activity only where nobody else has said so: the
// last errors of an outage come after the news of its end, since clients repeat them.
func TestARefusalIsLoudUnlessItIsOfAKnownOutage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away bool // before
		loud int
	}{
		"of a right that the probe does not need": {loud: 1},
		"at the end of an outage":                 {away: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := watchedHost{locks: refusingLocks{}, health: &turned{down: test.away, changed: make(chan struct{})}, told: make(chan notifier.Event, 100)}
			var log bytes.Buffer // read when the activity is over
			inbound, err := interceptors.NewWorker(host, interceptors.Options{
				DefaultPolicy: interceptors.Critical, Registerer: prometheus.NewRegistry(), Pause: interceptors.Pause{HoldFor: 2 * time.Second},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
			})
			if err != nil {
				t.Fatal(err)
			}
			done := act(inbound, func(context.Context) error { return nil })
			for ev := range host.told {
				if ev.Status == notifier.StatusPaused {
					break
				}
			}
			host.health.turn(false)
			if err := <-done; err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("the activity ended with %v", err)
			}
			if loud := strings.Count(log.String(), "level=ERROR"); loud != test.loud {
				t.Errorf("there are %d loud lines; want %d: %s", loud, test.loud, log.String())
			}
		})
	}
}
