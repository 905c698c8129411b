package worker

import (
	"context"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/notifier"
)

// workerHost hands the running resources to one worker's interceptors.
type workerHost struct {
	plugin *Plugin
	state  *workerState
}

// Enter counts the activity for its worker and for the runtime, so that neither
// the stop of the worker nor another's close takes Redis away under it.
func (h workerHost) Enter() (interceptors.Resources, func(), error) {
	h.plugin.mu.Lock()
	defer h.plugin.mu.Unlock()
	rt := h.plugin.rt
	if rt == nil {
		return interceptors.Resources{}, nil, ErrNotRunning
	}
	rt.busy.begin()
	h.state.busy.begin()
	return rt.resources(), func() {
		h.state.busy.end()
		rt.busy.end()
	}, nil
}

// Publisher is the running publisher, or nil outside of the worker's life.
func (h workerHost) Publisher() notifier.Publisher {
	h.plugin.mu.Lock()
	defer h.plugin.mu.Unlock()
	if h.plugin.rt == nil {
		return nil
	}
	return h.plugin.rt.publisher
}

// clientHost opens Redis on a client's first use where no worker has.
type clientHost struct{ plugin *Plugin }

func (h clientHost) Enter() (interceptors.Resources, func(), error) {
	return interceptors.Resources{}, nil, ErrNotRunning // a client runs no activities
}

func (h clientHost) Publisher() notifier.Publisher {
	p := h.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rt == nil {
		p.held = true // nothing else would keep it open, Close ends it
	}
	rt, err := p.openLocked(context.Background())
	if err != nil {
		p.options.Logger.Warn("event not published", "op", "publish", "family", "events", "error", err)
		return nil
	}
	return rt.publisher
}

// replayHost has no resources: a replay neither runs activities nor publishes.
type replayHost struct{}

func (replayHost) Enter() (interceptors.Resources, func(), error) {
	return interceptors.Resources{}, nil, ErrNotRunning
}

func (replayHost) Publisher() notifier.Publisher { return nil }
