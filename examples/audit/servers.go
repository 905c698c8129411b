package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/examples/audit/flow"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// Bounds of the start and the end.
const (
	connectTimeout = 5 * time.Second
	closeTimeout   = 10 * time.Second
)

// host is everything that runs while the workflow does. What has been started
// is stopped by stop, in the reverse order.
type host struct {
	plugin   *worker.Plugin
	client   client.Client
	addr     string // of Temporal
	queue    string
	registry *prometheus.Registry
	own      *devserver.Server // nil: the Temporal server is not ours
	source   flow.Source
	attempts *flow.Attempts
	chaos    *chaos // nil: none
	stops    []func()
}

// start brings up Redis, Temporal and a worker. On an error everything is
// stopped again.
func start(ctx context.Context, s settings, id string, w *spec.Workflow) (_ *host, err error) {
	// The terminal belongs to the table; what fails comes as an error.
	quiet := slog.New(slog.DiscardHandler)
	h := &host{registry: prometheus.NewRegistry(), source: flow.Source{WorkflowID: id, Workflow: w}}
	h.queue = id // no stale worker of another run can take our tasks
	defer func() {
		if err != nil {
			h.stop()
		}
	}()
	if s.chaos {
		var stop func()
		if h.chaos, stop, err = startChaos(ctx); err != nil {
			return nil, err
		}
		h.stops = append(h.stops, stop)
		s.redis = h.chaos.server.URL()
	}
	if err := h.openRedis(ctx, s, quiet); err != nil {
		return nil, err
	}
	if err := h.dialTemporal(ctx, s, quiet); err != nil {
		return nil, err
	}
	counters, err := h.plugin.Counters(ctx)
	if err != nil {
		return nil, err
	}
	h.registry.MustRegister(counters.Collector())
	worker := sdkworker.New(h.client, h.queue, sdkworker.Options{})
	h.attempts = flow.Register(worker, counters)
	if err := worker.Start(); err != nil {
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	h.stops = append(h.stops, worker.Stop)
	return h, nil
}

// openRedis makes the plugin and asks Redis whether it answers. The plugin
// would wait for a Redis that is away; a demo had better say so.
func (h *host) openRedis(ctx context.Context, s settings, logs *slog.Logger) (err error) {
	h.plugin, err = worker.NewPlugin(worker.Options{
		Redis:             redisstate.Options{URL: s.redis, Source: &h.source, NearCacheBytes: s.nearCache},
		Environment:       func(string) (string, bool) { return "", false },
		TemporalNamespace: s.namespace,
		Policies:          flow.Policies(),
		Logger:            logs,
		Registerer:        h.registry,
	})
	if err != nil {
		return refuse("--redis", err.Error())
	}
	h.stops = append(h.stops, func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = h.plugin.Close(ctx) // the process ends
	})
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	switch _, err := h.plugin.Inspect(ctx); {
	case errors.Is(err, redisstate.ErrUnsuitable):
		return fmt.Errorf("--redis: %w", err) // names the remedy
	case errors.Is(err, redisstate.ErrUnavailable):
		return fmt.Errorf("--redis: %w; start Redis there, or leave the flag out for an embedded one", err)
	case err != nil:
		return fmt.Errorf("--redis: %w", err)
	}
	return nil
}

func (h *host) dialTemporal(ctx context.Context, s settings, logs *slog.Logger) error {
	h.addr = s.temporal
	var connection client.ConnectionOptions
	if h.addr == "" {
		server, err := devserver.Start(ctx, devserver.Options{Nice: serverNice})
		if err != nil {
			return fmt.Errorf("start a Temporal dev server: %w; or name a server by --temporal", err)
		}
		h.stops = append(h.stops, server.Stop)
		h.own, h.addr, connection = server, server.Addr(), devserver.Connection()
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: h.addr, Namespace: s.namespace, Logger: log.NewStructuredLogger(logs),
		ConnectionOptions: connection, Plugins: []client.Plugin{h.plugin},
	})
	if err != nil {
		return fmt.Errorf("--temporal: no Temporal server at %.200q: %w; start one there, or leave the flag out", h.addr, err)
	}
	h.client, h.source.Client = c, c
	h.stops = append(h.stops, c.Close)
	return nil
}

func (h *host) stop() {
	for _, stop := range slices.Backward(h.stops) {
		stop()
	}
	h.stops = nil
}
