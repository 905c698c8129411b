//go:build integration

package notifier_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

func clusterClient(tb testing.TB, c *redistest.Cluster) *redis.ClusterClient {
	tb.Helper()
	var addrs []string
	for _, node := range c.Nodes() {
		addrs = append(addrs, node.Addr())
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestPubSub_on_a_cluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	var backends atomic.Int64
	for name, sharded := range map[string]bool{"sharded": true, "not sharded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.PubSub(t, func(tb testing.TB) contract.PubSubBackend {
				prefix := fmt.Sprint("b", backends.Add(1))
				client := clusterClient(tb, cluster)
				return contract.PubSubBackend{
					OpenPublisher: func(tb testing.TB, o notifier.PublisherOptions) contract.PubSubPublisher {
						o.Namespace, o.ChannelPrefix, o.Sharded = prefix, prefix, sharded
						return openPublisher(tb, client, o)
					},
					OpenSubscriber: func(tb testing.TB, o notifier.SubscriberOptions) contract.PubSubSubscriber {
						o.Namespace, o.ChannelPrefix, o.Sharded = prefix, prefix, sharded
						return openHub(tb, client, o)
					},
					Listeners: func(tb testing.TB, channel string) int { return listenersOf(tb, client, sharded, prefix+":"+channel) },
					Flush:     func(tb testing.TB) { forget(tb, client, prefix) },
				}
			})
		})
	}
}

// onMasters asks each master.
func onMasters(tb testing.TB, client *redis.ClusterClient, do func(ctx context.Context, node *redis.Client) error) {
	tb.Helper()
	if err := client.ForEachMaster(tb.Context(), do); err != nil {
		tb.Fatal(err)
	}
}

func listenersOf(tb testing.TB, client *redis.ClusterClient, sharded bool, channel string) int {
	tb.Helper()
	var all atomic.Int64
	onMasters(tb, client, func(ctx context.Context, node *redis.Client) error {
		count := node.PubSubNumSub
		if sharded {
			count = node.PubSubShardNumSub
		}
		n, err := count(ctx, channel).Result()
		all.Add(n[channel])
		return err
	})
	return int(all.Load())
}

// forget deletes all keys of a namespace.
func forget(tb testing.TB, client *redis.ClusterClient, namespace string) {
	tb.Helper()
	onMasters(tb, client, func(ctx context.Context, node *redis.Client) error {
		names := node.Scan(ctx, 0, namespace+":*", 1000).Iterator()
		for names.Next(ctx) {
			if err := node.Del(ctx, names.Val()).Err(); err != nil {
				return err
			}
		}
		return names.Err()
	})
}

// The owner of a channel's slot changes, and says so to who listens.
func TestHub_follows_a_sharded_channel_to_its_new_owner(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	client := clusterClient(t, cluster)
	p := openPublisher(t, client, notifier.PublisherOptions{Sharded: true})
	// Bells only, and no probe, which would find in the end that nothing comes.
	h := openHub(t, client, notifier.SubscriberOptions{Sharded: true, CheckEvery: time.Hour, ProbeEvery: time.Hour})
	s := subscribe(t, h)
	publish(t, p, 0, 10)
	follows(t, s, 0, 10)
	slot, err := cluster.Slot(t.Context(), "workflow:w")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if _, err := cluster.Failover(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
		from := 10 + round*10
		publish(t, p, from, from+10)
		follows(t, s, from, from+10)
	}
}

func TestNew_refuses_shards_without_a_cluster(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	if _, err := notifier.NewPublisher(client, notifier.PublisherOptions{Sharded: true}); err == nil {
		t.Error("a publisher takes it")
	}
	if _, err := notifier.NewSubscriber(client, notifier.SubscriberOptions{Sharded: true}); err == nil {
		t.Error("a subscriber takes it")
	}
}
