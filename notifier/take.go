package notifier

import "sort"

// source is where a subscription finds what comes next.
type source int

const (
	fromFeed source = iota // the feed has it, or will have it
	fromLog                // the feed has let it go; the log goes on from there
	fromAnew               // the log did not go on: start from a view of all of it
)

// most is how many events a subscription takes at a time.
const most = 64

// take gives the next events that the feed holds for a subscription, says where
// else they are, or when to ask again. The events are shared: read-only.
func (f *feed) take(s *Subscription) (events []Event, from source, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.following, s.generation != f.generation && f.failure != nil: // the log cannot be read
		return f.asides(s), fromFeed, f.changed
	case s.generation != f.generation:
		return nil, fromAnew, nil
	case s.at.epoch != f.end.epoch: // the feed has not seen it yet
		return nil, fromFeed, f.changed
	case s.at.id < f.base:
		return nil, fromLog, nil
	}
	i := sort.Search(len(f.events), func(i int) bool { return f.events[i].ID > s.at.id })
	if n := len(f.events) - i; n > most {
		s.at.id = f.events[i+most-1].ID
		return f.events[i : i+most : i+most], fromFeed, nil
	}
	s.at.id = max(s.at.id, f.end.id)
	if i == len(f.events) {
		return f.asides(s), fromFeed, f.changed
	}
	return f.events[i:len(f.events):len(f.events)], fromFeed, nil // and again, for asides
}
