//go:build integration

package contract_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

// deployment is a Redis whose servers all tests share, each under a namespace of
// its own.
type deployment struct {
	url     string
	servers []*redistest.Server
}

// lockAndEventRules are those that docs/operations.md gives for workers with
// locks and events.
var lockAndEventRules = []string{
	"on", ">pw", "resetkeys", "~contract-*", "resetchannels", "&contract-*",
	"+@all", "-@admin", "-@dangerous", "+info", "+client|unblock",
}

func (d deployment) connect(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	conn, err := redisstate.Connect(tb.Context(), redisstate.Options{
		URL: d.url, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn.Client()
}

// flush forgets a namespace, on every server that takes writes.
func (d deployment) flush(tb testing.TB, namespace string) {
	tb.Helper()
	ctx := context.Background()
	for _, server := range d.servers {
		client := server.ControlClient(tb)
		if client.InfoMap(ctx, "replication").Item("Replication", "role") != "master" {
			continue
		}
		names, err := client.Keys(ctx, namespace+":*").Result()
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range names {
			if err := client.Del(ctx, name).Err(); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// listeners counts the connections to the channel.
func (d deployment) listeners(tb testing.TB, channel string) (total int) {
	tb.Helper()
	for _, server := range d.servers {
		counts, err := server.ControlClient(tb).PubSubNumSub(context.Background(), channel).Result()
		if err != nil {
			tb.Fatal(err)
		}
		total += int(counts[channel])
	}
	return total
}

func (d deployment) locks(testing.TB) contract.LockManagerBackend {
	namespace := "contract-" + uuid.NewString()
	return contract.LockManagerBackend{
		Open: func(tb testing.TB, o locking.Options) locking.LockManager {
			tb.Helper()
			o.Namespace, o.Registerer, o.Logger = namespace, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			m, err := locking.New(d.connect(tb), o)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = m.Close(context.Background()) })
			return m
		},
		Flush: func(tb testing.TB) { d.flush(tb, namespace) },
	}
}

func (d deployment) events(tb testing.TB) contract.PubSubBackend {
	namespace := "contract-" + uuid.NewString()
	client := d.connect(tb)
	return contract.PubSubBackend{
		OpenPublisher: func(tb testing.TB, o notifier.PublisherOptions) contract.PubSubPublisher {
			tb.Helper()
			o.Namespace, o.ChannelPrefix = namespace, namespace
			o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			p, err := notifier.NewPublisher(client, o)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = p.Close(context.Background()) })
			return p
		},
		OpenSubscriber: func(tb testing.TB, o notifier.SubscriberOptions) contract.PubSubSubscriber {
			tb.Helper()
			o.Namespace, o.ChannelPrefix = namespace, namespace
			o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			h, err := notifier.NewSubscriber(client, o)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = h.Close() })
			return h
		},
		Listeners: func(tb testing.TB, channel string) int { return d.listeners(tb, namespace+":"+channel) },
		Flush:     func(tb testing.TB) { d.flush(tb, namespace) },
	}
}

func TestLocks_and_events_on_every_deployment(t *testing.T) {
	t.Parallel()
	watched, shards := redistest.StartSentinel(t), redistest.StartCluster(t)
	guarded := redistest.Start(t, redistest.WithUser("worker", lockAndEventRules...))
	for name, d := range map[string]deployment{
		"Sentinel":           {watched.URL(), watched.Nodes()},
		"Cluster":            {shards.URL(), shards.Nodes()},
		"a user with an ACL": {guarded.URLFor("worker", "pw"), []*redistest.Server{guarded}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("locks", func(t *testing.T) {
				t.Parallel()
				contract.LockManager(t, d.locks)
			})
			t.Run("events", func(t *testing.T) {
				t.Parallel()
				contract.PubSub(t, d.events)
			})
		})
	}
}
