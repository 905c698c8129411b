package notifier

import (
	"cmp"
	"slices"
	"time"
)

// catchUp is what a subscription has to be told to get from where it is to
// where a view of the log ends.
type catchUp struct {
	events []Event
	end    position
	gap    string  // reason of the gap among the events, if there is one
	broken []error // bodies that could not be read
}

// catchUpFrom computes the events between a place and the end of the view,
// which holds the whole log and the snapshot:
//
//   - at the snapshot: the current state of each task;
//   - at the start: every entry that there is;
//   - at a position that the log still continues: the entries after it;
//   - else a gap, the states that are older than the log, and every entry.
//
// lost says that the position is known to be void although it looks right.
func catchUpFrom(workflowID string, begin beginning, from position, lost bool, v *view) catchUp {
	c := catchUp{end: position{epoch: v.epoch, id: v.seq}}
	if v.epoch == "" {
		c.end = from // nothing there: wait where we are
		return c
	}
	if begin == atPosition && from.epoch == "" && from.id > 0 {
		from.epoch = v.epoch
	}
	entries, broken := readEntries(v, newHistory())
	c.broken = broken
	switch reason := gapBefore(from, lost, v); {
	case begin == atSnapshot:
		c.events = snapshotEvents(v, entries, len(entries))
	case begin == atStart:
		c.addEntries(entries, 0)
	case reason == "":
		c.addEntries(entries, from.id)
	default:
		c.gap = reason
		gap := Event{Kind: KindGap, WorkflowID: workflowID, Epoch: v.epoch, Reason: reason, Time: time.Now().UTC()}
		c.events = append([]Event{gap}, snapshotEvents(v, entries, 0)...)
		c.addEntries(entries, 0)
	}
	return c
}

// catchUpSince computes what a subscription has to be told that began at a time at which
// the log was there already, and reads it only now: the states of then, and every entry
// since, by the clocks of the publishers.
func catchUpSince(since time.Time, v *view) catchUp {
	c := catchUp{end: position{epoch: v.epoch, id: v.seq}}
	entries, broken := readEntries(v, newHistory())
	c.broken = broken
	news := slices.IndexFunc(entries, func(e logEntry) bool { return !e.skip && !e.event.Time.Before(since) })
	if news < 0 {
		news = len(entries)
	}
	c.events = snapshotEvents(v, entries, news)
	c.addEntries(entries[news:], 0)
	return c
}

// gapBefore says why the log does not continue from the position, "" if it
// does.
func gapBefore(from position, lost bool, v *view) string {
	switch {
	case lost:
		return GapRestarted
	case from.epoch == "":
		// We saw an empty log. Does this one still have its beginning?
		if start, known := firstID(v.epoch); known && v.first() > start {
			return GapTrimmed
		}
	case from.epoch != v.epoch, from.id > v.seq:
		return GapRestarted
	case from.id+1 < v.first():
		return GapTrimmed
	}
	return ""
}

// logEntry is an entry with its place, and whether it has to be left out: a
// repeat, or unreadable.
type logEntry struct {
	event Event
	skip  bool
}

// readEntries decodes the entries of a view. It begins at the oldest, wherever
// the reader goes on, so that repeats are seen as such.
func readEntries(v *view, h *history) (entries []logEntry, broken []error) {
	entries = make([]logEntry, len(v.bodies))
	for i, body := range v.bodies {
		e, err := decode(body)
		if err != nil {
			broken = append(broken, err)
			entries[i].skip = true
			entries[i].event.ID = v.first() + int64(i)
			continue
		}
		news := h.admit(e)
		e.Epoch, e.ID = v.epoch, v.first()+int64(i)
		entries[i] = logEntry{event: e.Event, skip: !news}
	}
	return entries, broken
}

// addEntries appends the entries after id, in order.
func (c *catchUp) addEntries(entries []logEntry, after int64) {
	for _, e := range entries {
		if !e.skip && e.event.ID > after {
			c.events = append(c.events, e.event)
		}
	}
}

// snapshotEvents are the states of the tasks before entries[upTo] as events, in the order
// of their ids; those older than the log have none and come first. Who comes back with any
// of these ids is served rightly. A state that came about later is left out, since the
// entry itself is told.
func snapshotEvents(v *view, entries []logEntry, upTo int) []Event {
	inLog := latestInLog(entries)
	before := inLog
	if upTo < len(entries) {
		before = latestInLog(entries[:upTo])
	}
	var events []Event
	add := func(kind Kind, known *entry) {
		ev, of := known.Event, latest{kind, known.TaskKey()}
		if newer, ok := inLog[of]; ok && scoreOf(&newer) >= scoreOf(&ev) {
			if ev, ok = before[of]; !ok {
				return
			}
		}
		ev.Epoch, ev.Snapshot = v.epoch, true
		events = append(events, ev)
	}
	for _, s := range v.states {
		add(KindStatus, s.event)
		if s.progress != nil {
			add(KindProgress, s.progress)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	return events
}

// latest names what a log says of a task.
type latest struct {
	kind Kind
	key  string
}

// latestInLog finds the entry that counts for each task. It is the better
// source than the snapshot's details: an append that ran twice, the second time
// late, may have put back what a status of the same rank had replaced.
func latestInLog(entries []logEntry) map[latest]Event {
	found := make(map[latest]Event)
	for _, e := range entries {
		if e.skip {
			continue
		}
		of := latest{e.event.Kind, e.event.TaskKey()}
		if known, ok := found[of]; !ok || e.event.Supersedes(known) {
			found[of] = e.event
		}
	}
	return found
}
