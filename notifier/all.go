package notifier

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/internal/bus"
)

// listEvery is how often SubscribeAll looks for workflow ids of which it heard nothing.
const listEvery = 30 * time.Second

// All is a subscription to all workflow ids. Events of one workflow id come in order.
// Safe for concurrent use.
type All struct {
	hub    *Hub
	opts   []SubscribeOption
	ctx    context.Context
	cancel context.CancelFunc
	out    chan Event
	began  time.Time
	wake   chan struct{} // there is something in news, or a reason to look
	looks  atomic.Bool

	running sync.WaitGroup // the workflow ids that are followed

	mu        sync.Mutex
	news      map[string]struct{} // workflow ids that were heard of and are not followed
	following map[string]struct{}
	left      map[string]leftAt    // where those were that are followed no more
	foreign   map[string]time.Time // of which there was nothing in the log: left alone until then
	err       error
}

// SubscribeAll subscribes to every workflow id: to those that are active with a
// snapshot of each and what is published from now on, to those that begin while the
// subscription lives with all of their events. (From now on is by Event.Time: what is
// published a moment later with an earlier one, by a clock that is behind or after an
// outage, may come as a snapshot, and what a clock that is ahead said before may come as
// news.) It takes one reading of the
// log for each, so it is for hundreds of workflows rather than for hundreds of
// thousands. opts are those of Subscribe, After excepted. Errors as with Subscribe.
func (h *Hub) SubscribeAll(ctx context.Context, opts ...SubscribeOption) (*All, error) {
	var settings subscribeSettings
	for _, opt := range opts {
		opt(&settings)
	}
	if settings.begin == atPosition {
		return nil, fmt.Errorf("notifier: subscribe to all: %w: After is about one workflow id", ErrInvalidOptions)
	}
	if !h.begin() {
		return nil, fmt.Errorf("notifier: subscribe to all: %w", ErrClosed)
	}
	defer h.running.Done()
	a := &All{
		hub: h, opts: opts, out: make(chan Event, 16), wake: make(chan struct{}, 1), began: time.Now(),
		news: make(map[string]struct{}), following: make(map[string]struct{}), left: make(map[string]leftAt), foreign: make(map[string]time.Time),
	}
	a.ctx, a.cancel = context.WithCancel(ctx)
	stop := context.AfterFunc(h.ctx, a.cancel)
	waiting, cancel := context.WithTimeout(a.ctx, h.options.ConnectTimeout)
	defer cancel()
	var err error
	unhear := func() {}
	if !h.options.Sharded { // else there are no patterns
		registration := h.bus.ListenPattern(h.log.space.ChannelPattern(), bus.Listener{Confirmed: a.lookAgain, From: a.heard})
		unhear = registration.Close
		err = registration.Wait(waiting)
	}
	if err == nil {
		begin := a.fromBeginning()
		if settings.begin == atStart { // as it was asked for
			begin = nil
		}
		err = a.list(waiting, begin)
	}
	if err != nil {
		unhear()
		stop()
		a.cancel()
		return nil, h.refused(ctx, err)
	}
	h.running.Go(func() {
		defer stop()
		defer unhear()
		a.run(ctx)
	})
	return a, nil
}

// begin counts something that runs. It reports false once Close was called; if true,
// the caller must call running.Done.
func (h *Hub) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return false
	}
	h.running.Add(1)
	return true
}

// Events gives the events. It is closed when the subscription ends; Err then tells why.
func (a *All) Events() <-chan Event { return a.out }

// Err is nil while the subscription lives and after its Close, the cause of its context
// when that ended, and an ErrClosed when the subscriber was closed.
func (a *All) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Close ends the subscription; Events is closed soon after. It is idempotent.
func (a *All) Close() { a.cancel() }

func (a *All) heard(channel, _ string) {
	id, ok := a.hub.log.space.ChannelWorkflow(channel)
	if !ok {
		return
	}
	a.mu.Lock()
	_, known := a.following[id]
	if known = known || time.Now().Before(a.foreign[id]); !known {
		a.news[id] = struct{}{}
	}
	a.mu.Unlock()
	if !known {
		a.nudge()
	}
}

func (a *All) lookAgain() {
	a.looks.Store(true)
	a.nudge()
}

func (a *All) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// takeNews follows what was heard of.
func (a *All) takeNews() {
	a.mu.Lock()
	news := a.news
	a.news = make(map[string]struct{})
	a.mu.Unlock()
	for id := range news {
		a.admit(id, a.fromBeginning())
	}
}

// fromBeginning begins with all events of a log that began with us, and with the states
// of an older one as they were when we began and what came since. (The log is read some
// time later.)
func (a *All) fromBeginning() SubscribeOption {
	return func(s *subscribeSettings) {
		FromStart()(s)
		s.since = a.began
	}
}

// run follows what it hears of, until the end.
func (a *All) run(ctx context.Context) {
	defer func() {
		a.running.Wait()
		a.mu.Lock()
		switch {
		case a.hub.ctx.Err() != nil:
			a.err = context.Cause(a.hub.ctx)
		case ctx.Err() != nil:
			a.err = context.Cause(ctx)
		}
		a.mu.Unlock()
		close(a.out)
	}()
	every := listEvery
	if a.hub.options.Sharded {
		every = a.hub.options.CheckEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-a.wake:
			a.takeNews()
		case <-tick.C:
			a.looks.Store(true)
		}
		if a.looks.Swap(false) { // the subscriptions tell of an outage; the next tick looks again
			_ = a.list(a.ctx, a.fromBeginning())
			a.listEnded()
		}
	}
}

// listEnded follows what ended while nothing was heard.
func (a *All) listEnded() {
	ids, err := a.hub.justEnded(a.ctx, a.began)
	if err != nil {
		return
	}
	for _, id := range ids {
		a.readmit(id, a.fromBeginning())
	}
}

// list follows the workflow ids that are listed as active. begin is how; nil is as the
// options of the subscription say.
func (a *All) list(ctx context.Context, begin SubscribeOption) error {
	for cursor := uint64(0); ; {
		ids, next, err := a.hub.Active(ctx, cursor, 100)
		if err != nil {
			return err
		}
		for _, id := range ids {
			a.readmit(id, begin)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
