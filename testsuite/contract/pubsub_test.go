package contract

import (
	"context"
	"log/slog"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/notifier"
)

// embeddedPubSub is a backend on embedded Redis.
func embeddedPubSub(tb testing.TB) PubSubBackend {
	tb.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	tb.Cleanup(func() { _ = client.Close() })
	return PubSubBackend{
		OpenPublisher: func(tb testing.TB, opts notifier.PublisherOptions) PubSubPublisher {
			opts.Registerer, opts.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			p, err := notifier.NewPublisher(client, opts)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = p.Close(context.Background()) })
			return p
		},
		OpenSubscriber: func(tb testing.TB, opts notifier.SubscriberOptions) PubSubSubscriber {
			opts.Registerer, opts.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			s, err := notifier.NewSubscriber(client, opts)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = s.Close() })
			return s
		},
		Listeners: func(_ testing.TB, channel string) int { return server.PubSubNumSub(channel)[channel] },
		Flush:     func(testing.TB) { server.FlushAll() },
	}
}

func TestPubSub_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	PubSub(t, embeddedPubSub)
}
