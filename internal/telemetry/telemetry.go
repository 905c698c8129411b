package telemetry

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the instrumentation scope of our spans.
const Scope = "github.com/compozy/temporal-redis"

// Config says where telemetry goes. Each nil field has a default.
type Config struct {
	Logger         *slog.Logger          // Defaults to slog.Default()
	Registerer     prometheus.Registerer // Defaults to prometheus.DefaultRegisterer
	TracerProvider trace.TracerProvider  // Defaults to otel.GetTracerProvider()
}

// Telemetry is what the packages write to. Safe for concurrent use.
type Telemetry struct {
	Log     *slog.Logger
	Tracer  trace.Tracer
	Metrics *Metrics
}

// New resolves the defaults and registers the metrics. It fails only if the
// registry holds other collectors under our names.
func New(c Config) (*Telemetry, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.DefaultRegisterer
	}
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	metrics, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("telemetry: register metrics: %w; use a registry of its own for the plugin", err)
	}
	return &Telemetry{Log: c.Logger, Tracer: c.TracerProvider.Tracer(Scope), Metrics: metrics}, nil
}
