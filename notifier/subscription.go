package notifier

import (
	"context"
	"errors"
	"sync"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Subscription is one consumer of a workflow id's events. A consumer that does
// not read holds up nobody, neither other subscriptions nor publishers; it gets
// what it missed from the log. Safe for concurrent use.
type Subscription struct {
	feed     *feed
	settings subscribeSettings
	ctx      context.Context
	cancel   context.CancelCauseFunc
	release  func() bool
	out      chan Event
	first    []Event // what to begin with

	// Guarded by feed.mu.
	at         position // what has been taken from the feed or the log
	generation int      // of the feed when at was found, -1 before

	mu  sync.Mutex
	err error
}

// errEnded is the cause of a subscription's end by Close.
var errEnded = errors.New("subscription closed")

func newSubscription(ctx context.Context, f *feed, settings subscribeSettings) *Subscription {
	s := &Subscription{feed: f, settings: settings, out: make(chan Event, 16), generation: -1}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.release = context.AfterFunc(f.hub.ctx, func() { s.cancel(context.Cause(f.hub.ctx)) })
	return s
}

// Events gives the events, in order. It is closed when the subscription ends;
// Err then tells why.
func (s *Subscription) Events() <-chan Event { return s.out }

// Err is nil while the subscription lives and after its Close, the cause of its
// context when that ended, and an ErrClosed when the subscriber was closed.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the subscription; Events is closed soon after. It is idempotent
// and does not wait.
func (s *Subscription) Close() { s.cancel(errEnded) }

// connect waits for the channel's confirmation and for the feed, and reads the
// log for the first time. The order makes sure that nothing falls in between.
func (s *Subscription) connect(ctx context.Context) error {
	if err := s.feed.registration.Wait(ctx); err != nil {
		return err
	}
	if err := s.feed.await(ctx); err != nil {
		return err
	}
	retry := newBackoff()
	for {
		events, err := s.resync(ctx, s.settings.begin)
		if err == nil {
			s.first = events
			return nil
		}
		if rediserr.Classify(ctx, err) != rediserr.Unavailable {
			return err
		}
		if retry.wait(ctx) != nil {
			return err
		}
	}
}

// run hands out events until the subscription ends.
func (s *Subscription) run() {
	defer s.feed.hub.running.Done()
	defer s.end()
	events := s.first
	s.first = nil
	for s.deliver(events) {
		var ok bool
		if events, ok = s.next(); !ok {
			return
		}
	}
}

// end says why and takes the subscription out of its feed.
func (s *Subscription) end() {
	s.release()
	s.feed.leave(s)
	if cause := context.Cause(s.ctx); !errors.Is(cause, errEnded) {
		s.mu.Lock()
		s.err = cause
		s.mu.Unlock()
	}
	s.cancel(errEnded)
	close(s.out)
}

func (s *Subscription) deliver(events []Event) bool {
	for _, ev := range events {
		select {
		case s.out <- ev:
		case <-s.ctx.Done():
			return false
		}
	}
	return s.ctx.Err() == nil
}

// next waits for more events. It reports false when the subscription ends.
func (s *Subscription) next() ([]Event, bool) {
	retry := newBackoff()
	for {
		events, behind, changed := s.feed.take(s)
		if len(events) > 0 {
			return events, true
		}
		if behind {
			events, err := s.resync(s.ctx, atPosition)
			switch {
			case s.ctx.Err() != nil:
				return nil, false
			case err != nil:
				s.feed.hub.readFailed(err)
				if retry.wait(s.ctx) != nil {
					return nil, false
				}
			case len(events) > 0:
				return events, true
			}
			continue
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return nil, false
		}
	}
}

// resync reads the log itself: at the beginning, and whenever the feed cannot
// go on from where the subscription is.
func (s *Subscription) resync(ctx context.Context, begin beginning) ([]Event, error) {
	f := s.feed
	f.mu.Lock()
	generation, at := f.generation, s.at
	lost := s.generation >= 0 && s.generation < f.lost
	f.mu.Unlock()
	if begin != atPosition || at == (position{}) {
		at = s.settings.from
	}
	ctx, cancel := context.WithTimeout(ctx, f.hub.options.Timeout)
	defer cancel()
	v, err := f.hub.log.read(ctx, f.workflowID, 0, true)
	if err != nil {
		return nil, rediserr.Wrap(s.ctx, "notifier: read log", family, err)
	}
	f.hub.readWell()
	c := catchUpFrom(f.workflowID, begin, at, lost, v)
	f.hub.unreadable(c.broken)
	f.hub.missed(c.gap)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.at, s.generation = c.end, generation
	return c.events, nil
}

// take gives the next events that the feed holds for a subscription, or says
// that the subscription is behind what it holds, or when to ask again.
func (f *feed) take(s *Subscription) (events []Event, behind bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.following:
		return nil, false, f.changed
	case s.generation != f.generation:
		return nil, true, nil
	case s.at.epoch != f.end.epoch: // the feed has not seen it yet
		return nil, false, f.changed
	case s.at.id < f.base:
		return nil, true, nil
	}
	const most = 64
	for i, ev := range f.events {
		if ev.ID <= s.at.id {
			continue
		}
		if n := min(len(f.events)-i, most); n < len(f.events)-i {
			s.at.id = f.events[i+n-1].ID
			return append([]Event(nil), f.events[i:i+n]...), false, nil
		}
		events = append([]Event(nil), f.events[i:]...)
		break
	}
	s.at.id = max(s.at.id, f.end.id)
	return events, false, f.changed
}
