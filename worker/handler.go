package worker

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds the question to Redis behind /readyz, which is asked until
// everything was looked at and found good once.
const readyTimeout = 2 * time.Second

// Handler serves /healthz (the process lives), /readyz (a worker runs and Redis
// serves it) and /metrics. /readyz asks nothing where the health monitors know:
// it is red from the moment that an outage is found to its end. It tells no address and no error text: the log has
// them. Mount it where only operators reach it.
func (p *Plugin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", p.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.options.Gatherer, promhttp.HandlerOpts{}))
	return mux
}

func (p *Plugin) ready(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	rt, running := p.rt, p.running > 0
	p.mu.Unlock()
	if !running || rt == nil {
		reply(w, http.StatusServiceUnavailable, "no worker runs")
		return
	}
	if !rt.health.Available() { // the monitors have logged why
		reply(w, http.StatusServiceUnavailable, unavailable)
		return
	}
	if rt.health.known() && rt.looked() {
		reply(w, http.StatusOK, "ready")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := rt.check(ctx); err != nil {
		p.options.Logger.WarnContext(ctx, "not ready", "op", "readyz", "error", err)
		reply(w, http.StatusServiceUnavailable, unavailable)
		return
	}
	reply(w, http.StatusOK, "ready")
}

const unavailable = "redis is not available"

func reply(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client may have gone
}
