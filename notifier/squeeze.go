package notifier

import "slices"

// squeeze makes room when the queue is over its capacity, down to seven eighths
// of it, so that its cost is spread over many events. It gives up, in this
// order and no more than it has to: progress but for the last of each task, all
// progress, statuses that a later one supersedes, the oldest events of tasks,
// the oldest events of workflows. Each drop is counted, and told as a gap when
// Redis is back. Events with a sender are left alone.
func (q *queue) squeeze() {
	target := q.capacity - max(q.capacity/8, 1)
	for _, stage := range []func(){
		func() { q.dropEach(olderProgress) },
		func() { q.dropEach(allProgress) },
		func() { q.dropEach(superseded) },
		func() { q.dropOldest(q.depth-target, func(it *queued) bool { return !it.event.OfWorkflow() }) },
		func() { q.dropOldest(q.depth-target, func(*queued) bool { return true }) },
	} {
		if q.depth <= target {
			break
		}
		stage()
	}
	q.forgetGaps()
}

// dropEach drops, in every mailbox, the items that the choice marks.
func (q *queue) dropEach(choose func(items []*queued) map[*queued]bool) {
	for _, m := range q.mailboxes {
		if marked := choose(m.items); len(marked) > 0 {
			q.drop(m, func(it *queued) bool { return marked[it] })
		}
	}
}

// drop takes items out of a mailbox.
func (q *queue) drop(m *mailbox, marked func(*queued) bool) {
	before := len(m.items)
	m.items = slices.DeleteFunc(m.items, marked)
	if n := before - len(m.items); n > 0 {
		m.dropped += n
		q.count(-n)
		q.onDrop(n)
	}
}

func olderProgress(items []*queued) map[*queued]bool {
	last := make(map[string]*queued)
	marked := make(map[*queued]bool)
	for _, it := range items {
		if it.event.Kind != KindProgress {
			continue
		}
		if older := last[it.key]; older != nil {
			marked[older] = true
		}
		last[it.key] = it
	}
	return marked
}

func allProgress(items []*queued) map[*queued]bool {
	marked := make(map[*queued]bool)
	for _, it := range items {
		if it.event.Kind == KindProgress {
			marked[it] = true
		}
	}
	return marked
}

// superseded marks every status but the one that counts of each task, and the
// beginnings of its pauses, which the log is to show.
func superseded(items []*queued) map[*queued]bool {
	current := make(map[string]*queued)
	marked := make(map[*queued]bool)
	for _, it := range items {
		if it.event.Kind != KindStatus || it.event.Status == StatusPaused {
			continue
		}
		known := current[it.key]
		switch {
		case known == nil:
			current[it.key] = it
		case it.event.Supersedes(known.event):
			marked[known] = true
			current[it.key] = it
		default:
			marked[it] = true
		}
	}
	return marked
}

// dropOldest drops the n oldest of the eligible items, over all mailboxes.
func (q *queue) dropOldest(n int, eligible func(*queued) bool) {
	var numbers []int64
	for _, m := range q.mailboxes {
		for _, it := range m.items {
			if eligible(it) {
				numbers = append(numbers, it.number)
			}
		}
	}
	if len(numbers) == 0 {
		return
	}
	slices.Sort(numbers)
	limit := numbers[min(n, len(numbers))-1]
	for _, m := range q.mailboxes {
		q.drop(m, func(it *queued) bool { return it.number <= limit && eligible(it) })
	}
}

// forgetGaps bounds the mailboxes that hold nothing but an untold gap: beside
// those with events there are never more than the capacity.
func (q *queue) forgetGaps() {
	for id, m := range q.mailboxes {
		if len(q.mailboxes) <= 2*q.capacity {
			return
		}
		if !m.busy && m.count() == 0 {
			m.dropped = 0
			delete(q.mailboxes, id) // take skips it, should it still be ready
		}
	}
}
