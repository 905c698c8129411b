package notifier

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/compozy/temporal-redis/internal/excerpt"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// StatusSource says from elsewhere than Redis what a workflow and its tasks are
// doing: worker.NewStatusSource asks Temporal. A subscription that has one hears of
// what never came to the log (a terminated workflow, a publisher that was killed), and
// goes on while Redis is away.
type StatusSource interface {
	// States returns an event for the newest run of the workflow id and one for each
	// task that is known. What counts is their identity (RunID, TaskID, Call,
	// ActivityID, ActivityType), and Attempt, Status, Reason, Final and Time. An
	// unknown workflow id gives none. Safe for concurrent use; ctx has a deadline.
	States(ctx context.Context, workflowID string) ([]Event, error)
}

// OriginSource is Event.Origin of what a StatusSource said.
const OriginSource = "temporal"

// WithStatusSource has the subscription ask source when events stop, and while Redis
// is away. Its events have OriginSource as their Origin and no ID. They tell only what
// goes beyond the log; while Redis is away, also that a task is active in another way
// (PAUSED instead of RUNNING). Subscriptions of one hub to one workflow id share the
// source that was given last, and hear of it. While Redis is away, Subscribe begins with
// the source after half of ConnectTimeout. A source that does not heed its context holds
// up Hub.Close.
func WithStatusSource(source StatusSource) SubscribeOption {
	return func(s *subscribeSettings) { s.source = source }
}

const (
	// sourceLongest is how much more seldom than StatusEvery a source is asked that has
	// no news.
	sourceLongest = 12
	// sourceAway is how often it is asked while Redis is away and it has news.
	sourceAway = time.Second
	// sourceAwayLongest is how seldom, while it has no news; and while it does not answer.
	sourceAwayLongest = 10 * time.Second
	// sourceTimeout bounds one question.
	sourceTimeout = 5 * time.Second
)

// told is what the source said beyond the log.
type told struct {
	number int64 // rising
	event  Event
}

// consultation is when a feed asks its source. It belongs to the feed's goroutine.
type consultation struct {
	feed    *feed
	timer   *time.Timer
	pause   time.Duration
	away    bool // the log cannot be read
	asking  bool
	answers chan answer
}

type answer struct {
	states []Event
	err    error
}

func newConsultation(f *feed) *consultation {
	every := f.hub.options.StatusEvery
	return &consultation{feed: f, timer: time.NewTimer(every), pause: every, answers: make(chan answer, 1)}
}

// read notes how a reading of the log went.
func (c *consultation) read(err error, news bool) {
	switch {
	case err != nil && !c.away:
		c.away, c.pause = true, min(sourceAway, c.feed.hub.options.StatusEvery)/2
		c.timer.Reset(0)
	case err == nil && (news || c.away):
		c.away, c.pause = false, c.feed.hub.options.StatusEvery
		c.timer.Reset(c.pause)
	}
}

// ask asks the source, in the background.
func (c *consultation) ask() {
	f := c.feed
	f.mu.Lock()
	source := f.source
	f.mu.Unlock()
	if source == nil || c.asking {
		c.timer.Reset(f.hub.options.StatusEvery)
		return
	}
	c.asking = true
	f.hub.running.Go(func() {
		states, err := askSource(f.ctx, source, f.workflowID)
		c.answers <- answer{states, err}
	})
}

// askSource asks once. A source is the host's: a panic of it is an error.
func askSource(ctx context.Context, source StatusSource, workflowID string) (states []Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the status source panicked (%T)", p)
		}
	}()
	states, err = source.States(ctx, workflowID)
	known := states[:0:0]
	for _, ev := range states {
		if ev.Status.Valid() {
			known = append(known, sourced(ev, workflowID))
		}
	}
	return known, err
}

// sourced is a state as subscribers get it.
func sourced(ev Event, workflowID string) Event {
	ev.Kind, ev.WorkflowID, ev.Origin = KindStatus, workflowID, OriginSource
	ev.Epoch, ev.ID, ev.Snapshot, ev.Previous = "", 0, false, ""
	ev.Reason = excerpt.Line(ev.Reason, maxFieldBytes)
	return ev
}

// take hands an answer to the subscriptions, as far as it is news.
func (c *consultation) take(a answer) {
	c.asking = false
	f := c.feed
	away := c.away || !f.following
	failed := a.err != nil && f.ctx.Err() == nil
	if failed {
		f.hub.sourceFailed(a.err)
	}
	var news []Event
	f.mu.Lock()
	f.forgetOtherRuns(a.states)
	for _, ev := range a.states {
		if f.beyond(&ev, away) {
			news = append(news, ev)
		}
	}
	f.mu.Unlock()
	if len(news) > 0 {
		f.publish(nil, func() {
			for _, ev := range news {
				f.number++
				f.told[ev.TaskKey()] = told{f.number, ev}
			}
		})
	}
	least, most := f.hub.options.StatusEvery, sourceLongest*f.hub.options.StatusEvery
	switch {
	case away:
		least, most = min(sourceAway, least), max(sourceAwayLongest, least)
	case failed: // what it knows is not known yet
		most = min(most, max(sourceAwayLongest, least))
	}
	if c.pause = min(2*c.pause, most); len(news) > 0 {
		c.pause = least
	}
	c.timer.Reset(quiet(c.pause)) // many feeds do not ask at the same time
}

// forgetOtherRuns drops what was said of tasks of runs that are not the newest. The
// caller holds mu.
func (f *feed) forgetOtherRuns(states []Event) {
	i := slices.IndexFunc(states, Event.OfWorkflow)
	if i < 0 {
		return
	}
	for key, t := range f.told {
		if t.event.RunID != states[i].RunID {
			delete(f.told, key)
		}
	}
}

// beyond tells whether a state of the source is more than what the log and the source
// said so far, and sets its previous status. The caller holds mu, on the feed's
// goroutine.
func (f *feed) beyond(ev *Event, away bool) bool {
	known, ok := f.history.tasks[ev.TaskKey()]
	alone := false // only the source knows of the task, as far as it is now
	if before, said := f.told[ev.TaskKey()]; said && (!ok || scoreOf(&before.event) >= scoreOf(&known)) {
		known, ok, alone = before.event, true, true
	}
	if !ok {
		return true
	}
	ev.Previous = known.Status
	if score, have := scoreOf(ev), scoreOf(&known); score != have || (!away && !alone) {
		return score > have
	}
	// That a task runs the source says as well of one that waits or is held.
	return ev.Status != known.Status && ev.Status.Rank() == rankActive && (ev.Status != StatusRunning || known.Origin != "")
}

// forget drops what the source said of a task when the log says as much. The caller
// holds mu.
func (f *feed) forget(ev *Event) {
	if before, said := f.told[ev.TaskKey()]; said && ev.Kind == KindStatus && scoreOf(ev) >= scoreOf(&before.event) {
		delete(f.told, ev.TaskKey())
	}
}

// asides is what the source said since a subscription looked last. The caller holds
// mu.
func (f *feed) asides(s *Subscription) []Event {
	if s.told == f.number {
		return nil
	}
	var found []told
	for _, t := range f.told {
		begun, ok := s.begun[t.event.TaskKey()]
		if t.number > s.told && (!ok || !sameState(&begun, &t.event) && scoreOf(&t.event) >= scoreOf(&begun)) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b told) int { return cmp.Compare(a.number, b.number) })
	s.told = f.number
	events := make([]Event, len(found))
	for i, t := range found {
		events[i] = t.event
	}
	return events
}

// connectWithout begins a subscription with what its source says, because Redis is
// away.
func (s *Subscription) connectWithout(ctx context.Context, away error) error {
	if s.settings.source == nil || rediserr.Classify(ctx, away) != rediserr.Unavailable || ctx.Err() != nil {
		return away
	}
	states, err := askSource(ctx, s.settings.source, s.feed.workflowID)
	if err != nil {
		return fmt.Errorf("%w; the status source does not answer either: %w", away, err)
	}
	s.begun = make(map[string]Event, len(states))
	for _, ev := range states {
		s.begun[ev.TaskKey()] = ev
	}
	s.first = states
	return nil
}
