package notifier

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/internal/bus"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// feed follows the log of one workflow id for all its subscriptions. It holds
// the newest events in memory until the slowest subscription has them, or the
// buffer is full; what it no longer holds a subscription reads itself.
type feed struct {
	hub          *Hub
	workflowID   string
	registration *bus.Registration
	ctx          context.Context
	stop         context.CancelFunc
	bell         chan struct{} // there may be news
	rings        atomic.Int64  // since the last reading

	// Only the feed's goroutine uses these.
	history  *history
	lastBody string // of the newest entry, to see whether the log went back

	mu            sync.Mutex
	subscriptions map[*Subscription]struct{}
	following     bool           // the log has been read once
	failure       error          // why not, as far as it is known
	generation    int            // rises when the log did not go on from end
	lost          int            // newest generation in which positions became void
	base          int64          // events holds what is after this id
	end           position       // and up to here
	events        []Event        // never changed once in; sub-slices are shared
	skipped       map[int64]bool // ids up to base that are not to be told
	changed       chan struct{}  // closed and replaced when there is news

	source StatusSource    // nil: none
	told   map[string]told // what it said beyond the log, by task key
	number int64           // of the last of these
}

func newFeed(h *Hub, workflowID string) *feed {
	f := &feed{
		hub:           h,
		workflowID:    workflowID,
		bell:          make(chan struct{}, 1),
		history:       newHistory(),
		subscriptions: make(map[*Subscription]struct{}),
		changed:       make(chan struct{}),
		told:          make(map[string]told),
	}
	f.ctx, f.stop = context.WithCancel(h.ctx)
	f.registration = h.bus.Listen(h.log.space.Channel(workflowID), bus.Listener{
		Confirmed: f.ring,
		Message:   func(string) { f.ring() },
	})
	return f
}

// ring says that there may be news. It does not block.
func (f *feed) ring() {
	f.rings.Add(1)
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

// run reads the log whenever the bell rang, when it was quiet for a while, and
// after a failure.
func (f *feed) run() {
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	retry := newBackoff()
	source := newConsultation(f)
	defer source.timer.Stop()
	for {
		select {
		case <-f.bell:
		case <-timer.C:
		case <-source.timer.C:
			source.ask()
			continue
		case a := <-source.answers:
			source.take(a)
			continue
		case <-f.ctx.Done():
			return
		}
		before := f.end
		err := f.catchUp()
		source.read(err, f.end != before)
		if err != nil {
			if f.ctx.Err() != nil {
				return
			}
			f.readFailed(err)
			f.publish(nil, func() { f.failure = err })
			timer.Reset(retry.next())
			continue
		}
		if f.failure != nil {
			f.publish(nil, func() { f.failure = nil })
		}
		retry.reset()
		timer.Reset(quiet(f.hub.options.CheckEvery))
	}
}

// await waits until the log has been read once, or cannot be.
func (f *feed) await(ctx context.Context) error {
	for {
		f.mu.Lock()
		following, failure, changed := f.following, f.failure, f.changed
		f.mu.Unlock()
		switch {
		case following:
			return nil
		case failure != nil && rediserr.Classify(ctx, failure) != rediserr.Unavailable:
			return failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure != nil {
				return failure
			}
			return rediserr.Wrap(f.ctx, "notifier: read log", family, context.Cause(ctx))
		}
	}
}

// quiet spreads the idle readings of many feeds.
func quiet(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5) }

// slack is how many entries a reading takes beyond those it was rung for.
const slack = 8

// catchUp reads what is new.
func (f *feed) catchUp() error {
	rings := f.rings.Swap(0)
	if !f.following {
		return f.restart(false)
	}
	v, err := readFrom(f.end, int(min(rings, 1<<16))+slack, func(newest int) (*view, error) { return f.read(newest, false) })
	switch {
	case err != nil:
		return err
	case f.end.epoch == "" && v.epoch != "":
		return f.begin()
	case v.epoch == "", v.epoch == f.end.epoch && v.seq == f.end.id && v.newest() == f.lastBody:
		return nil
	case v.epoch != f.end.epoch, v.first() > f.end.id+1:
		return f.restart(false)
	case v.wentBack(f.end.id, f.lastBody):
		return f.restart(true)
	}
	entries, broken := readEntries(v.after(f.end.id), f.history)
	f.hub.unreadable(broken)
	f.publish(entries, func() {
		f.end.id = v.seq
		f.add(entries)
	})
	f.lastBody = v.newest()
	return nil
}

// begin takes up a log that was not there before. Subscriptions that saw that it
// was not there go on with its first entry.
func (f *feed) begin() error {
	v, err := f.read(0, false)
	if err != nil {
		return err
	}
	if start, known := firstID(v.epoch); !known || v.first() > start || v.epoch == "" {
		return f.restart(false)
	}
	entries, broken := readEntries(v, f.history)
	f.hub.unreadable(broken)
	f.publish(entries, func() {
		before := position{epoch: v.epoch, id: v.first() - 1}
		for s := range f.subscriptions {
			if s.generation == f.generation && s.at == (position{}) && s.settings.from == (position{}) {
				s.generation, s.at = f.generation+1, before
			}
		}
		f.generation++
		f.base = before.id
		f.end = position{epoch: v.epoch, id: v.seq}
		f.add(entries)
	})
	f.lastBody = v.newest()
	return nil
}

// restart takes the log as it is now. Subscriptions find out themselves what
// that means from where they are.
func (f *feed) restart(lost bool) error {
	v, err := f.read(0, true)
	if err != nil {
		return err
	}
	h := newHistory()
	entries, broken := readEntries(v, h)
	f.hub.unreadable(broken)
	for _, s := range v.states {
		if known, ok := h.tasks[s.key]; !ok || scoreOf(&known) < scoreOf(&s.event.Event) {
			h.know(s.key, s.event.Event)
		}
	}
	f.history = h
	f.lastBody = v.newest()
	var news []logEntry
	if f.following {
		news = entries
		if f.end.epoch == v.epoch && !lost {
			news = entriesAfter(entries, f.end.id)
		}
	}
	f.publish(news, func() {
		f.following = true
		f.generation++
		if lost {
			f.lost = f.generation
		}
		f.events = nil
		for _, known := range h.tasks {
			f.forget(&known)
		}
		f.skipped = make(map[int64]bool)
		f.end = position{epoch: v.epoch, id: v.seq}
		f.base = v.seq
	})
	return nil
}

func entriesAfter(entries []logEntry, id int64) []logEntry {
	for i, e := range entries {
		if e.event.ID > id {
			return entries[i:]
		}
	}
	return nil
}

// publish changes the feed's state, wakes the subscriptions and counts the
// news.
func (f *feed) publish(news []logEntry, change func()) {
	f.mu.Lock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	now := time.Now()
	metrics := f.hub.tel.Metrics
	for _, e := range news {
		if e.skip {
			continue
		}
		metrics.PubSubMsgs.WithLabelValues(telemetry.Received).Inc()
		metrics.PubSubLatency.Observe(max(now.Sub(e.event.Time), 0).Seconds())
	}
}

// add keeps events for the subscriptions, within the buffer.
func (f *feed) add(entries []logEntry) {
	keepFrom := f.end.id
	for s := range f.subscriptions {
		if s.at.epoch == f.end.epoch {
			keepFrom = min(keepFrom, s.at.id)
		}
	}
	for _, e := range entries {
		if e.skip {
			f.skip(e.event.ID)
		} else {
			f.events = append(f.events, e.event)
			f.forget(&e.event)
		}
	}
	drop := max(len(f.events)-f.hub.options.Buffer, 0)
	for drop < len(f.events) && f.events[drop].ID <= keepFrom {
		drop++
	}
	if drop > 0 {
		f.base = f.events[drop-1].ID
		f.events = f.events[drop:]
	}
}

// maxSkipped bounds what a feed remembers of repeats. Past it a subscription
// that is far behind may be told one.
const maxSkipped = 4096

// skip remembers an entry that is not to be told, for subscriptions that read
// the log themselves.
func (f *feed) skip(id int64) {
	if len(f.skipped) >= maxSkipped {
		clear(f.skipped)
	}
	f.skipped[id] = true
}

func (f *feed) read(newest int, snapshot bool) (*view, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.hub.options.Timeout)
	defer cancel()
	v, err := f.hub.log.read(ctx, f.workflowID, newest, snapshot)
	if err == nil {
		f.readWell()
	}
	return v, rediserr.Wrap(f.ctx, "notifier: read log", family, err)
}
