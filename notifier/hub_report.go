package notifier

// readFailed notes that a log could not be read, once. It is tried again for as
// long as there is a subscription.
func (h *Hub) readFailed(err error) {
	if h.ctx.Err() == nil && h.failing.CompareAndSwap(false, true) {
		h.tel.Log.Warn("event log not read, trying again", "op", "read", "family", family, "error", err)
	}
}

// readWell notes that a log could be read.
func (h *Hub) readWell() {
	if h.failing.Load() && h.failing.CompareAndSwap(true, false) {
		h.tel.Log.Info("event log is read again", "op", "read", "family", family)
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
