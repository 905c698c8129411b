package telemetry_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTelemetry(t *testing.T, registry prometheus.Registerer) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	return tel
}

func TestMetrics_of_the_product_are_there_from_the_start(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	newTelemetry(t, registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, family := range families {
		there[family.GetName()] = true
	}
	for _, name := range []string{"redis_cache_hits", "redis_lock_contention_total", "redis_pubsub_msgs_total"} {
		if !there[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestMetrics_of_one_registry_are_shared(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			tel, err := telemetry.New(telemetry.Config{Registerer: registry})
			if err != nil {
				t.Error(err)
				return
			}
			tel.Metrics.CacheHits.WithLabelValues(telemetry.CacheNear).Inc()
			tel.Metrics.LockContention.Inc()
		})
	}
	all.Wait()
	m := newTelemetry(t, registry).Metrics
	if hits, locks := testutil.ToFloat64(m.CacheHits.WithLabelValues(telemetry.CacheNear)), testutil.ToFloat64(m.LockContention); hits != 16 || locks != 16 {
		t.Fatalf("counted %v and %v; want 16 each", hits, locks)
	}
}

func TestMetrics_say_so_when_their_names_are_taken(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "redis_cache_hits", Help: "another"}))
	_, err := telemetry.New(telemetry.Config{Registerer: registry})
	if err == nil || !strings.Contains(err.Error(), "registry of its own") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v", err)
	}
}

func TestMetrics_have_well_formed_names_and_help(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	newTelemetry(t, registry)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Metric == "redis_cache_hits" || p.Metric == "redis_cache_misses" {
			continue // named by the product requirements, and its twin
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNew_has_a_default_for_everything(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t, prometheus.NewRegistry())
	if tel.Log == nil || tel.Tracer == nil || tel.Metrics == nil {
		t.Fatalf("got %+v", tel)
	}
	_, span := tel.Tracer.Start(t.Context(), "x")
	span.End()
}
