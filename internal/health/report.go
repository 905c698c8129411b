package health

import (
	"context"
	"log/slog"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// reporter tells operators: metrics under the monitor's lock, the log without.
type reporter struct {
	name    string
	logger  *slog.Logger
	metrics *telemetry.Metrics // nil: none
	counted time.Time          // up to when the present outage is in the metric
	told    bool               // that access is refused, in the present outage
}

func newReporter(o Options) *reporter {
	return &reporter{name: o.Name, logger: o.Log, metrics: o.Metrics}
}

// begin and end show the monitor in the metrics and take it out.
func (r *reporter) begin() {
	if r.metrics == nil {
		return
	}
	for _, state := range []State{Unknown, Up, Degraded, Down} {
		r.metrics.HealthState.WithLabelValues(r.name, state.String())
	}
	r.metrics.OutageSeconds.WithLabelValues(r.name)
	r.metrics.HealthState.WithLabelValues(r.name, Unknown.String()).Inc()
}

func (r *reporter) end(last State) {
	if r.metrics != nil {
		r.metrics.HealthState.WithLabelValues(r.name, last.String()).Dec()
	}
}

// measure counts a step. The seconds of an outage are counted as they pass.
func (r *reporter) measure(s step) {
	if r.metrics == nil {
		return
	}
	if s.before.State != s.after.State {
		r.metrics.HealthState.WithLabelValues(r.name, s.before.State.String()).Dec()
		r.metrics.HealthState.WithLabelValues(r.name, s.after.State.String()).Inc()
	}
	switch {
	case s.before.State == Down:
		r.metrics.OutageSeconds.WithLabelValues(r.name).Add(s.now.Sub(r.counted).Seconds())
	case s.after.State == Down:
		r.metrics.Outages.WithLabelValues(r.name, string(s.outage.reason)).Inc()
	default:
		return
	}
	r.counted = s.now
}

const remedy = "check user, password, ACL rules and TLS settings of this client (REDIS_USERNAME, REDIS_PASSWORD, REDIS_TLS_CA)"

// log says that an outage began or ended, and once in each that access is refused.
// It is called by the probing goroutine only.
func (r *reporter) log(ctx context.Context, s step) {
	began, ended := s.after.State == Down && s.before.State != Down, s.before.State == Down && s.after.State != Down
	switch {
	case s.after.State == Down && s.after.Class == rediserr.Denied && (began || !r.told):
		r.told = true
		r.logger.ErrorContext(ctx, "Redis refuses access; what waits for it goes on by itself once it lets the client in",
			"op", "health", "client", r.name, "reason", string(s.after.Reason), "remedy", remedy)
	case began:
		r.told = false
		r.logger.WarnContext(ctx, "Redis is away; what waits for it goes on by itself",
			"op", "health", "client", r.name, "reason", string(s.after.Reason))
	case ended:
		r.told = false
		r.logger.InfoContext(ctx, "Redis is back", "op", "health", "client", r.name, "reason", string(s.outage.reason),
			"duration", s.now.Sub(s.outage.began), "failed_operations", s.outage.operations, "probes", s.outage.probes)
	}
}
