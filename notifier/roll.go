package notifier

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// enlistEvery is how often a publisher notes a workflow id that goes on.
	enlistEvery = time.Hour
	// maxEnlisted bounds what a publisher remembers of that; past it, it begins anew.
	maxEnlisted = 10_000
	// maxRuns bounds the runs that are remembered of a workflow id.
	maxRuns = 4
)

// roll is what a publisher notes of workflow ids: that they are active, or have ended.
// The senders say what is to be noted and do not wait for that, since of a Cluster the
// slot of the list may be away while theirs are not. Safe for concurrent use.
type roll struct {
	signal chan struct{} // there is something to note

	mu      sync.Mutex
	noted   map[string]*noted
	due     map[string]listing // by workflow id
	writing bool
	ended   int           // writes that are over
	failing bool          // the last one failed
	changed chan struct{} // closed and replaced when a write is over
}

// listing is what is to be noted of a workflow id.
type listing struct {
	active bool // else it has ended
	at     time.Time
	late   bool // it could not be noted at once: others may have noted more since
}

// noted is what was said of a workflow id.
type noted struct {
	at   time.Time // zero: that it has ended
	runs []string  // that were heard of, the newest last
}

func newRoll() *roll {
	return &roll{
		signal: make(chan struct{}, 1), noted: make(map[string]*noted), due: make(map[string]listing), changed: make(chan struct{}),
	}
}

// take looks at what was just published of a workflow id, and has noted what it changes.
// every is how often an active one is noted again.
func (r *roll) take(workflowID string, records []record, now time.Time, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.noted[workflowID]
	if n == nil {
		if len(r.noted) >= maxEnlisted {
			clear(r.noted)
		}
		n = &noted{}
		r.noted[workflowID] = n
		n.at = now.Add(-every) // due
	}
	begun, ends := false, false // what began, and what is the last word
	for _, rec := range records {
		if ev := rec.event; ev.Kind == KindStatus && ev.OfWorkflow() {
			n.heard(ev.RunID)
			ends = ev.EndsWorkflow()
			begun = begun || !ends
		} else if ev.Kind == KindStatus && !ev.Status.Terminal() && n.heard(ev.RunID) {
			begun, ends = true, false // a run that was reset begins without saying so
		}
	}
	switch {
	case ends && (begun || !n.at.IsZero()):
		n.at = time.Time{}
	case !ends && (begun || (!n.at.IsZero() && now.Sub(n.at) >= every)): // what comes late of one that has ended is neither
		n.at = now
	default:
		return
	}
	r.due[workflowID] = listing{active: !ends, at: now}
	r.tell()
}

// heard remembers a run. It is true if it is the first word of it, and there were others
// before.
func (n *noted) heard(run string) (isNew bool) {
	if run == "" || slices.Contains(n.runs, run) {
		return false
	}
	isNew = len(n.runs) > 0
	if len(n.runs) == maxRuns {
		n.runs = slices.Delete(n.runs, 0, 1)
	}
	n.runs = append(n.runs, run)
	return isNew
}

func (r *roll) tell() {
	select {
	case r.signal <- struct{}{}:
	default: // who writes is about to look
	}
}

// begin gives what is to be written, or nothing. Who gets something calls end.
func (r *roll) begin() map[string]listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.due) == 0 {
		return nil
	}
	due := r.due
	r.due, r.writing = make(map[string]listing), true
	return due
}

// end tells what became of it. What could not be written, and may be later, stays due
// unless something else is by now; what may not, or is too much, is forgotten, so that
// the next word of it is noted.
func (r *roll) end(due map[string]listing, err error, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing, r.failing = false, err != nil
	r.ended++
	again = again && len(r.due)+len(due) <= maxEnlisted
	for id, l := range due {
		_, superseded := r.due[id]
		switch {
		case err == nil || superseded:
		case again:
			l.late = true
			r.due[id] = l
		default:
			delete(r.noted, id)
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// settled is closed, or nil, when what was due before the call is written or could not
// be. Else it is to be asked again, with the same since, which begins as 0.
func (r *roll) settled(since *int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *since == 0 {
		*since = r.ended + 1
		if r.writing && len(r.due) > 0 {
			*since++
		}
	}
	if r.ended >= *since || r.failing || (!r.writing && len(r.due) == 0) {
		return nil
	}
	return r.changed
}

// enroll writes the roll until the publisher is closed.
func (p *BackgroundPublisher) enroll() {
	for {
		select {
		case <-p.roll.signal:
		case <-p.ctx.Done():
			return
		}
		for due := p.roll.begin(); due != nil; due = p.roll.begin() {
			err := p.try(p.ctx, func(ctx context.Context) error { return p.sink.enlist(ctx, due) })
			class := rediserr.Classify(p.ctx, err)
			if p.roll.end(due, err, isOutage(class)); err == nil {
				continue
			}
			p.tel.Metrics.PublishErrors.WithLabelValues(class.String()).Inc()
			pause := time.NewTimer(lastRetry)
			select {
			case <-pause.C:
			case <-p.ctx.Done():
				pause.Stop()
				return
			}
		}
	}
}
