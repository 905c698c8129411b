package redisstate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A registry that holds something else under one of our names is a wrong option.
func TestRegisterer_that_takes_no_metrics_is_refused(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	for name, use := range map[string]func(Options) error{
		"Connect":     func(o Options) error { _, err := Connect(t.Context(), o); return err },
		"NewStore":    func(o Options) error { _, err := NewStore(client, o); return err },
		"NewSessions": func(o Options) error { _, err := NewSessions(client, o); return err },
		"NewCache": func(o Options) error {
			_, err := NewCache(client, CacheOptions[int]{Kind: "k", Load: func(context.Context, string) (int, error) { return 1, nil }}, o)
			return err
		},
	} {
		o := quiet()
		o.Client = client
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "redis_cache_hits"}))
		o.Registerer = registry
		if err := use(o); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), "Registerer") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
