package notifier

import (
	"sync"
	"sync/atomic"
)

// failures are the feeds whose log could not be read when it was last tried. While one
// shard of a Cluster is away those of the others are read well.
type failures struct {
	n atomic.Int32 // of feeds

	mu    sync.Mutex
	feeds map[*feed]struct{}
}

func (f *failures) any() bool { return f.n.Load() > 0 }

// note adds a feed. It is true for the first one. A feed that nobody needs any more is
// none.
func (f *failures) note(of *feed) (began bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of.ctx.Err() != nil {
		return false
	}
	if f.feeds == nil {
		f.feeds = make(map[*feed]struct{})
	}
	f.feeds[of] = struct{}{}
	return f.n.Swap(int32(len(f.feeds))) == 0
}

// forget takes a feed out. It is true for the last one.
func (f *failures) forget(of *feed) (ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.feeds, of)
	return f.n.Swap(int32(len(f.feeds))) > 0 && len(f.feeds) == 0
}

// readFailed notes that the log could not be read; it is logged once for all logs. It is
// tried again for as long as there is a subscription.
func (f *feed) readFailed(err error) {
	if f.hub.failing.note(f) {
		f.hub.tel.Log.Warn("event log not read, trying again", "op", "read", "family", family, "error", err)
	}
}

// readWell notes that the log could be read.
func (f *feed) readWell() {
	if f.hub.failing.any() && f.hub.failing.forget(f) {
		f.hub.tel.Log.Info("event log is read again", "op", "read", "family", family)
	}
}

// sourceFailed notes that a status source did not answer.
func (h *Hub) sourceFailed(err error) {
	h.tel.Log.Debug("the status source did not answer, asking again", "op", "subscribe", "family", family, "error", err)
}

// unreadable notes entries that are not ours, or of a later version.
func (h *Hub) unreadable(errs []error) {
	if len(errs) > 0 {
		h.tel.Log.Warn("entries of the event log left out", "op", "read", "family", family,
			"entries", len(errs), "error", errs[0])
	}
}

// missed notes that a subscription was told a gap.
func (h *Hub) missed(reason string) {
	if reason != "" {
		h.tel.Log.Warn("a subscription missed events and got a snapshot", "op", "subscribe", "family", family, "reason", reason)
	}
}
