package notifier

import (
	"slices"
	"sync"
	"time"
)

// queued is an event that waits for Redis.
type queued struct {
	event  Event
	key    string // event.TaskKey()
	number int64  // rises in the order of Publish, by three: a gap fits in behind and before
}

// mailbox is what waits for one workflow id, in the order of Publish. One
// sender at a time works on it, which keeps that order in the log.
type mailbox struct {
	workflowID string
	items      []*queued
	sending    []*queued // with a sender, for the count and for Flush
	dropped    int       // events left out since the last gap was told
	busy       bool      // a sender has it
	ready      bool      // it stands in queue.ready
	uncertain  bool      // the last append may or may not have happened
	tried      gap       // that it was to tell
	away       string    // the shard to which it was sent last, for who is busy with it
}

// count is how many events the mailbox holds.
func (m *mailbox) count() int { return len(m.items) + len(m.sending) }

// empty reports whether there is nothing to send and nothing to tell.
func (m *mailbox) empty() bool { return m.count() == 0 && m.dropped == 0 }

// queue holds what waits, bounded. Safe for concurrent use; no method blocks
// for longer than a pass over the queue.
type queue struct {
	capacity int
	onDepth  func(change int)  // told of each change of depth
	onDrop   func(dropped int) // told of each drop
	signal   chan struct{}     // a token per mailbox that became ready, as far as it has room

	mu        sync.Mutex
	depth     int
	number    int64
	closed    bool
	mailboxes map[string]*mailbox
	ready     []*mailbox
	postponed []*mailbox    // ready, but for the time
	resuming  bool          // a timer will
	waiters   int           // Flushes under way
	changed   chan struct{} // closed and replaced when a sender is done, for waiters
}

func newQueue(capacity, senders int, onDepth, onDrop func(int)) *queue {
	return &queue{
		capacity:  capacity,
		onDepth:   onDepth,
		onDrop:    onDrop,
		signal:    make(chan struct{}, senders),
		mailboxes: make(map[string]*mailbox),
		changed:   make(chan struct{}),
	}
}

// put adds an event, making room if it has to. It reports false after close.
func (q *queue) put(ev Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	m := q.mailboxes[ev.WorkflowID]
	if m == nil {
		m = &mailbox{workflowID: ev.WorkflowID}
		q.mailboxes[ev.WorkflowID] = m
	}
	key := ev.TaskKey()
	if ev.Kind == KindStatus && ev.Status == StatusPaused && m.pauses(key) {
		q.offer(m)
		return true
	}
	q.number += 3
	m.items = append(m.items, &queued{event: ev, key: key, number: q.number})
	q.count(1)
	if q.depth > q.capacity {
		q.squeeze()
	}
	q.offer(m)
	return true
}

// pauses tells whether the last that waits of a task is its pause. Another
// attempt that pauses goes on with it: the log shows one interval.
func (m *mailbox) pauses(key string) bool {
	for _, it := range slices.Backward(m.items) {
		if it.key == key && it.event.Kind == KindStatus {
			return it.event.Status == StatusPaused
		}
	}
	return false
}

// count changes the depth.
func (q *queue) count(change int) {
	q.depth += change
	q.onDepth(change)
}

// offer makes the mailbox ready for a sender, or forgets it when it is empty.
func (q *queue) offer(m *mailbox) {
	switch {
	case m.busy || m.ready:
	case m.empty():
		delete(q.mailboxes, m.workflowID)
	default:
		m.ready = true
		q.ready = append(q.ready, m)
		select {
		case q.signal <- struct{}{}:
		default: // every sender is about to look
		}
	}
}

// batch is what a sender takes from a mailbox.
type batch struct {
	mailbox   *mailbox
	items     []*queued
	gap       gap  // to be told first
	uncertain bool // the gap that was tried, or part of the items, may be in the log already
	tried     gap
}

// gap is what a batch tells of events that were dropped.
type gap struct {
	dropped int // 0: there is none
	number  int64
}

// take gives the next mailbox's oldest events, up to the limits. The sender
// calls done or giveBack with it.
func (q *queue) take(maxItems, maxBytes int) (batch, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) > 0 {
		m := q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:]
		m.ready = false
		if m.empty() { // squeezed out since
			if q.mailboxes[m.workflowID] == m {
				delete(q.mailboxes, m.workflowID)
			}
			continue
		}
		n, bytes := 0, 0
		for n < len(m.items) && n < maxItems && (n == 0 || bytes+len(m.items[n].event.Data) <= maxBytes) {
			bytes += len(m.items[n].event.Data)
			n++
		}
		m.busy = true
		m.sending, m.items = m.items[:n:n], m.items[n:]
		b := batch{mailbox: m, items: m.sending, uncertain: m.uncertain, tried: m.tried}
		if m.dropped > 0 {
			b.gap = gap{dropped: m.dropped, number: q.before(m.sending)}
		}
		return b, true
	}
	return batch{}, false
}

// before is a number for what comes in front of the items.
func (q *queue) before(items []*queued) int64 {
	if len(items) == 0 {
		q.number += 3
		return q.number - 1
	}
	return items[0].number - 1
}

// told tells that the gap which a batch tried before is in the log.
func (q *queue) told(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b.mailbox.dropped -= b.tried.dropped
	b.gap.dropped -= b.tried.dropped
	b.tried, b.mailbox.tried = gap{}, gap{}
}

// done tells that the batch has left the queue.
func (q *queue) done(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b.mailbox.dropped -= b.gap.dropped
	q.settle(b.mailbox)
}

// settle forgets what is with a sender. The caller holds mu.
func (q *queue) settle(m *mailbox) {
	q.count(-len(m.sending))
	m.sending = nil
	m.uncertain, m.tried = false, gap{}
	q.release(m)
}

// refuse tells that Redis will never take the batch. What comes next of its workflow id
// tells that it is missing, and what it was to tell; if Redis refuses that alone, nobody is
// told.
func (q *queue) refuse(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := b.mailbox
	if len(b.items) > 0 || len(m.items) > 0 {
		m.dropped += len(b.items)
	} else {
		m.dropped -= b.gap.dropped
	}
	q.settle(m)
}

// giveBack puts the batch back in front, to be sent again.
func (q *queue) giveBack(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := b.mailbox
	m.items = slices.Concat(m.sending, m.items)
	m.sending = nil
	m.uncertain, m.tried = true, b.tried
	if q.depth > q.capacity {
		q.squeeze()
	}
	q.release(m)
}

// postpone puts the batch back in front of its mailbox, and that aside for a while.
func (q *queue) postpone(b batch, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := b.mailbox
	m.items = slices.Concat(m.sending, m.items)
	m.sending = nil
	m.busy, m.ready = false, true
	q.postponed = append(q.postponed, m)
	if !q.resuming {
		q.resuming = true
		time.AfterFunc(wait, q.resume)
	}
}

// resume makes ready what was postponed.
func (q *queue) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.resuming = false
	q.ready = append(q.ready, q.postponed...)
	for range q.postponed {
		select {
		case q.signal <- struct{}{}:
		default: // every sender is about to look
		}
	}
	q.postponed = nil
}

func (q *queue) release(m *mailbox) {
	m.busy = false
	q.offer(m)
	if q.waiters > 0 {
		close(q.changed)
		q.changed = make(chan struct{})
	}
}

// pending is how many events up to the given number are still there, and a
// channel that tells when to ask again.
func (q *queue) pending(upTo int64) (int, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, m := range q.mailboxes {
		for _, items := range [][]*queued{m.sending, m.items} {
			for _, it := range items {
				if it.number > upTo {
					break
				}
				n++
			}
		}
		if m.dropped > 0 && len(m.items) == 0 {
			n++
		}
	}
	return n, q.changed
}

// mark counts a waiter in and gives the number of the newest event.
func (q *queue) mark() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters++
	return q.number
}

func (q *queue) unmark() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters--
}

// close refuses further events.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// abandon empties the queue and returns how many events were in it.
func (q *queue) abandon() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for id, m := range q.mailboxes {
		n += m.count()
		m.items, m.sending, m.dropped = nil, nil, 0
		delete(q.mailboxes, id)
	}
	q.ready, q.postponed = nil, nil
	q.count(-q.depth)
	return n
}
