package notifier

import (
	"context"
	"math/rand/v2"
	"time"
)

// Waits between tries. The last one keeps recovery within a second of Redis
// answering.
const (
	firstRetry = 25 * time.Millisecond
	lastRetry  = 800 * time.Millisecond
)

// backoff is how long to wait after each of several failures in a row. Not safe
// for concurrent use.
type backoff struct{ failures int }

func newBackoff() *backoff { return &backoff{} }

// next is the wait after one more failure: 0.75 to 1.25 of twice the last one.
func (b *backoff) next() time.Duration {
	wait := min(firstRetry<<min(b.failures, 16), lastRetry)
	b.failures++
	return wait*3/4 + rand.N(wait/2)
}

func (b *backoff) reset() { b.failures = 0 }

// wait waits that long, or until ctx ends.
func (b *backoff) wait(ctx context.Context) error {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
