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
	first    []Event          // what to begin with
	silent   position         // up to where the log had nothing to begin with
	begun    map[string]Event // what the status source began it with, by task key

	// Guarded by feed.mu.
	at         position // what has been taken from the feed or the log
	generation int      // of the feed when at was found, -1 before
	told       int64    // number of the last that was taken of what the source said

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

// connect begins with the log, or with the status source if Redis is away.
func (s *Subscription) connect(ctx context.Context) error {
	if s.settings.source == nil {
		return s.connectToLog(ctx)
	}
	short, cancel := context.WithTimeout(ctx, s.feed.hub.options.ConnectTimeout/2)
	defer cancel()
	if err := s.connectToLog(short); err != nil {
		return s.connectWithout(ctx, err)
	}
	return nil
}

// connectToLog waits for the channel's confirmation and for the feed, and reads the
// log for the first time. The order makes sure that nothing falls in between.
func (s *Subscription) connectToLog(ctx context.Context) error {
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
			if s.first = events; len(events) == 0 {
				s.feed.mu.Lock()
				s.silent = s.at
				s.feed.mu.Unlock()
			}
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
	for s.ctx.Err() == nil {
		events, from, changed := s.feed.take(s)
		var err error
		switch from {
		case fromLog:
			events, err = s.catchUp()
		case fromAnew:
			events, err = s.resync(s.ctx, s.again())
		}
		switch {
		case len(events) > 0:
			return events, s.ctx.Err() == nil
		case err != nil && s.ctx.Err() == nil:
			s.feed.readFailed(err)
			_ = retry.wait(s.ctx) // next looks at ctx itself
		case from == fromFeed:
			select {
			case <-changed:
			case <-s.ctx.Done():
			}
		}
	}
	return nil, false
}

// again is where a subscription begins that cannot go on from where it is.
func (s *Subscription) again() beginning {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.generation < 0 { // Redis was away until now
		return s.settings.begin
	}
	return atPosition
}

// resync reads all of the log: at the beginning, and when the feed cannot go on
// from where the subscription is.
func (s *Subscription) resync(ctx context.Context, begin beginning) ([]Event, error) {
	f := s.feed
	f.mu.Lock()
	generation, at := f.generation, s.at
	lost := s.generation >= 0 && s.generation < f.lost
	f.mu.Unlock()
	if begin != atPosition || at == (position{}) {
		at = s.settings.from
	}
	v, err := s.read(ctx, 0, true)
	if err != nil {
		return nil, err
	}
	var c catchUp
	if begin == atStart && s.settings.olderThanUs(v) {
		c = catchUpSince(s.settings.since, v)
	} else {
		c = catchUpFrom(f.workflowID, begin, at, lost, v)
	}
	f.hub.unreadable(c.broken)
	f.hub.missed(c.gap)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.at, s.generation = c.end, generation
	s.told, s.begun = 0, nil // what the source said beyond this is told behind it
	return c.events, nil
}

// catchUp reads from the log what the feed has let go because others were
// quicker. If the log has let it go as well, resync tells the gap.
func (s *Subscription) catchUp() ([]Event, error) {
	f := s.feed
	f.mu.Lock()
	at, base := s.at, f.base
	f.mu.Unlock()
	v, err := readFrom(at, int(base-at.id)+most, func(newest int) (*view, error) { return s.read(s.ctx, newest, false) })
	if err != nil {
		return nil, err
	}
	if v.epoch != at.epoch || v.seq < base || v.first() > at.id+1 {
		return s.resync(s.ctx, atPosition)
	}
	entries, _ := readEntries(v.between(at.id, base), newHistory()) // the feed has said what is unreadable
	f.mu.Lock()
	defer f.mu.Unlock()
	events := make([]Event, 0, len(entries))
	for _, e := range entries {
		if !e.skip && !f.skipped[e.event.ID] {
			events = append(events, e.event)
		}
	}
	s.at.id = base
	return events, nil
}

func (s *Subscription) read(ctx context.Context, newest int, snapshot bool) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, s.feed.hub.options.Timeout)
	defer cancel()
	v, err := s.feed.hub.log.read(ctx, s.feed.workflowID, newest, snapshot)
	if err == nil {
		s.feed.readWell()
	}
	return v, rediserr.Wrap(s.ctx, "notifier: read log", family, err)
}
