package notifier

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// lingering is how long a workflow that ended is listened to, since its id may be
	// used again; and one of which nothing is in the log.
	lingering = 10 * time.Second
	// idling is how long one is that says nothing. A bell or the list brings it back.
	idling = 10 * time.Minute
	// maxLeft bounds what is remembered of workflows that are followed no more. Past it,
	// one whose id is used again may be told from its start.
	maxLeft = 10_000
)

// leftAt is where a workflow was that is followed no more.
type leftAt struct {
	position
	over bool   // it had ended
	run  string // which run of it
}

// readmit follows a workflow id that a list names. One that had ended when it was left is
// followed only if its log has more: the list names it for a while yet, and as active
// for as long as nobody publishes its end.
func (a *All) readmit(id string, begin SubscribeOption) {
	a.mu.Lock()
	_, known := a.following[id]
	at, left := a.left[id]
	a.mu.Unlock()
	switch {
	case known:
	case left && at.over:
		a.running.Go(func() {
			if a.unheard(id, at.position) {
				a.admit(id, begin)
			}
		})
	default:
		a.admit(id, begin)
	}
}

// admit follows a workflow id that is not followed yet, from where it was left if it
// was.
func (a *All) admit(id string, begin SubscribeOption) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.following[id]; known {
		return
	}
	a.following[id] = struct{}{}
	opts := slices.Clip(a.opts)
	at := a.left[id]
	if at.position != (position{}) {
		begin = After(at.epoch, at.id)
	}
	if begin != nil {
		opts = append(opts, begin)
	}
	a.running.Go(func() { a.follow(id, opts, at) })
}

// follow passes on the events of one workflow id, until it ended and its id is not used
// again.
func (a *All) follow(id string, opts []SubscribeOption, at leftAt) {
	s, err := a.subscribe(id, opts)
	if err != nil {
		a.leave(id, at)
		return
	}
	at, quiet := a.passOn(s, at)
	if at.position == (position{}) { // a log that is ours, but had no state
		at.position = s.silent
	}
	s.Close()
	a.leave(id, at)
	if quiet && a.unheard(id, at.position) {
		a.mu.Lock()
		a.news[id] = struct{}{}
		a.mu.Unlock()
		a.nudge()
	}
}

// passOn passes on the events of a subscription that goes on from at, and returns where
// it stopped. quiet says that it did since nothing came.
func (a *All) passOn(s *Subscription, at leftAt) (end leftAt, quiet bool) {
	ended := time.NewTimer(a.hub.lingering) // also if it is of another namespace, and nothing comes
	defer ended.Stop()
	for {
		select {
		case ev, ok := <-s.Events():
			if !ok {
				return at, false
			}
			select {
			case a.out <- ev:
			case <-a.ctx.Done():
				return at, false
			}
			if ev.ID > 0 {
				at.position = position{ev.Epoch, ev.ID}
			}
			switch {
			case ev.EndsWorkflow():
				at.over, at.run = true, ev.RunID
				ended.Reset(a.hub.lingering)
			case !at.over || (ev.Kind == KindStatus && ev.OfWorkflow()) || (ev.RunID != "" && ev.RunID != at.run): // else it comes late
				at.over = false
				ended.Reset(a.hub.idling)
			}
		case <-ended.C:
			return at, true
		}
	}
}

// leave notes where a workflow id was left that is followed no more. From now on its
// bells are news.
func (a *All) leave(id string, at leftAt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.following, id)
	if len(a.left) >= maxLeft {
		clear(a.left)
	}
	if len(a.foreign) >= maxLeft {
		clear(a.foreign)
	}
	if at != (leftAt{}) {
		a.left[id] = at
		delete(a.foreign, id)
	} else { // bells of another namespace; should it be used in ours, the list tells
		a.foreign[id] = time.Now().Add(a.hub.idling)
	}
}

// unheard tells whether a log that was left has something to tell: its bell rang while
// it still counted as followed, and was not heard. It is one more reading per workflow
// that ended; bells that ring later are heard.
func (a *All) unheard(id string, at position) bool {
	read := func(newest int) (*view, error) {
		ctx, cancel := context.WithTimeout(a.ctx, a.hub.options.Timeout)
		defer cancel()
		return a.hub.log.read(ctx, id, newest, false)
	}
	v, err := read(1)
	if err != nil || v.epoch == "" || (position{v.epoch, v.seq}) == at {
		return false // in an outage the connection is lost as well, and then the list tells
	}
	if start, known := firstID(v.epoch); at == (position{}) && (!known || start < a.began.UnixMicro()) {
		return false // its states were told
	}
	if v, err = read(0); err != nil {
		return false
	}
	return len(catchUpFrom(id, atPosition, at, false, v).events) > 0 // else it only has repeats
}

// subscribe subscribes to one workflow id, as soon as Redis is there.
func (a *All) subscribe(id string, opts []SubscribeOption) (*Subscription, error) {
	retry := newBackoff()
	for {
		s, err := a.hub.Subscribe(a.ctx, id, opts...)
		if !errors.Is(err, ErrUnavailable) || retry.wait(a.ctx) != nil {
			return s, err
		}
	}
}
