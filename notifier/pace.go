package notifier

import (
	"slices"
	"sync"
	"time"
)

// PacedPublisher passes events on to another publisher, the progress of a task at most
// once in an interval: of what comes in between, the last is passed on when the
// interval is over. Other events pass at once, behind what was held back of their task.
// It remembers each task that had progress until it is dropped itself: make one per
// activity attempt, or per workflow. Safe for concurrent use.
type PacedPublisher struct {
	next  Publisher
	every time.Duration

	mu    sync.Mutex
	tasks map[string]*paced // by task key
}

// paced is the progress of one task.
type paced struct {
	last  time.Time
	held  *Event
	timer *time.Timer // set while held is
}

var _ Publisher = (*PacedPublisher)(nil)

// Pace returns a publisher that passes on to next at most one progress event of a task
// in every. Flush ends its use.
func Pace(next Publisher, every time.Duration) *PacedPublisher {
	return &PacedPublisher{next: next, every: every, tasks: make(map[string]*paced)}
}

// Publish implements Publisher.
func (p *PacedPublisher) Publish(ev Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := ev.TaskKey()
	t := p.tasks[key]
	if ev.Kind != KindProgress {
		if t != nil {
			p.send(t)
		}
		return p.next.Publish(ev)
	}
	if t == nil {
		t = new(paced)
		p.tasks[key] = t
	}
	now := time.Now()
	wait := p.every - now.Sub(t.last)
	if wait <= 0 && t.held == nil {
		t.last = now
		return p.next.Publish(ev)
	}
	if checks, ok := p.next.(interface{ checkEvent(ev *Event) error }); ok {
		if err := checks.checkEvent(&ev); err != nil {
			return err
		}
	}
	if ev.Time.IsZero() {
		ev.Time = now
	}
	ev.Data = slices.Clone(ev.Data)
	t.held = &ev
	if t.timer == nil {
		t.timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.send(t)
		})
	}
	return nil
}

// send passes on what is held back of a task. The caller holds mu.
func (p *PacedPublisher) send(t *paced) {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if t.held != nil {
		_ = p.next.Publish(*t.held) // it was checked; a closed publisher takes nothing anyway
		t.held, t.last = nil, time.Now()
	}
}

// Flush passes on what is held back. The publisher may be used on.
func (p *PacedPublisher) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tasks {
		p.send(t)
	}
}
