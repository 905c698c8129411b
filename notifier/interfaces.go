package notifier

import (
	"context"
	"time"
)

// Publisher is what interceptors and activities publish to.
type Publisher interface {
	// Publish hands the event over. It never blocks and never fails for Redis'
	// sake: the error wraps ErrInvalidEvent or ErrClosed. Safe for concurrent
	// use; the event's Data is copied.
	Publish(ev Event) error
}

// Subscriber gives the events of one workflow id.
type Subscriber interface {
	// Subscribe listens to the workflow id. The subscription lives until ctx
	// ends, or it or its subscriber is closed. Unless After is given it begins
	// with a snapshot: the current state of each task. An error means that
	// nothing was started: ErrInvalidOptions, ErrUnavailable, ErrDenied,
	// ErrClosed, or ctx's. Safe for concurrent use.
	Subscribe(ctx context.Context, workflowID string, opts ...SubscribeOption) (*Subscription, error)
}

// SubscribeOption changes where a subscription begins.
type SubscribeOption func(*subscribeSettings)

type subscribeSettings struct {
	begin  beginning
	from   position
	source StatusSource // nil: none
	since  time.Time    // not zero: of a log that is older, atStart tells what was then as states
}

// olderThanUs tells whether a log was there before the subscription.
func (s *subscribeSettings) olderThanUs(v *view) bool {
	if s.since.IsZero() || v.epoch == "" {
		return false
	}
	start, known := firstID(v.epoch)
	return !known || start < s.since.UnixMicro()
}

// beginning is where a subscription begins.
type beginning int

const (
	atSnapshot beginning = iota // with the current state
	atPosition                  // after a known event
	atStart                     // with the oldest entry of the log
)

// After begins the subscription with the events that follow the given one, as
// when a consumer comes back: pass Epoch and ID of the last event it has seen
// with an ID above 0. If the log no longer has them all, a gap and a snapshot
// come first. An empty epoch means the current one, whichever it is.
func After(epoch string, id int64) SubscribeOption {
	return func(s *subscribeSettings) {
		s.begin = atPosition
		s.from = position{epoch: epoch, id: id}
	}
}

// FromStart begins the subscription with the oldest event that the log still
// holds, without a snapshot.
func FromStart() SubscribeOption {
	return func(s *subscribeSettings) {
		s.begin = atStart
		s.from = position{}
	}
}
