//go:build integration

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

func TestLocks(t *testing.T) {
	t.Parallel()
	for name, masters := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			var servers []*redistest.Server
			for range masters {
				server := redistest.Start(t)
				servers, urls = append(servers, server), append(urls, server.URL())
			}
			open := func() *locking.Manager {
				var clients []redis.UniversalClient
				for _, server := range servers {
					clients = append(clients, server.Client(t))
				}
				m, err := locking.NewQuorum(clients, locking.Options{
					Namespace: keys.NamespaceFor("default"), Holder: "worker-1", Quarantine: -1,
					Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = m.Close(context.Background()) })
				return m
			}
			env := map[string]string{"REDIS_URL": urls[0]}
			if masters > 1 { // they are all that is needed
				env = map[string]string{"REDIS_LOCK_URLS": strings.Join(urls, ",")}
			}
			if code, out, err := called(t, env, "locks"); code != 0 || out != "no locks are held in the namespace temporal-redis:default\n" || err != "" {
				t.Errorf("it ended with %d and said %q and %q", code, out, err)
			}
			lease, err := open().Acquire(t.Context(), "default/order\n17")
			if err != nil {
				t.Fatal(err)
			}
			waiting, stop := context.WithCancel(t.Context())
			waited := make(chan struct{})
			go func() {
				defer close(waited)
				_, _ = open().Acquire(waiting, "default/order\n17", locking.WithWait(time.Minute))
			}()
			defer func() { stop(); <-waited }()

			var lines []lockLine
			for giveUp := time.Now().Add(30 * time.Second); ; {
				code, out, errs := called(t, env, "locks", "--json")
				if code != 0 || json.Unmarshal([]byte(out), &lines) != nil || len(lines) != 1 {
					t.Fatalf("it ended with %d and said %q and %q", code, out, errs)
				}
				if lines[0].Waiters != nil && *lines[0].Waiters == 1 && lines[0].Masters == masters {
					break
				}
				if time.Now().After(giveUp) {
					t.Fatalf("it says %s", out)
				}
			}
			got := lines[0]
			if got.Resource != "default/order\n17" || got.Holder != "worker-1" || got.Of != masters || got.Fence < lease.Fence() ||
				got.TTL <= 0 || got.TTL > 30_000 || got.Age < 0 || got.Age > 60_000 {
				t.Errorf("it says %+v; the fence is %d", got, lease.Fence())
			}
			code, out, _ := called(t, env, "locks")
			if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"default/order\n17"`) || !strings.Contains(out, "worker-1") {
				t.Errorf("it ended with %d and said\n%s", code, out)
			}
			if err := lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
