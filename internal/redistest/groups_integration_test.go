//go:build integration

package redistest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSentinelPromotesAReplica(t *testing.T) {
	t.Parallel()
	start := time.Now()
	group := redistest.StartSentinel(t, redistest.WithPassword("a b/@"), redistest.WithSentinelPassword("watch"))
	t.Logf("started in %v", time.Since(start))
	ctx := t.Context()
	primary, err := group.Primary(ctx)
	must(t, err)
	must(t, primary.Client(t).Set(ctx, "k", "v", 0).Err())
	must(t, group.Settle(ctx))
	start = time.Now()
	second, err := group.Failover(ctx)
	must(t, err)
	t.Logf("planned fail-over in %v", time.Since(start))
	if second == primary {
		t.Fatal("the primary is the same after a fail-over")
	}
	start = time.Now()
	killed, third, err := group.KillPrimary(ctx)
	must(t, err)
	t.Logf("fail-over after a kill in %v", time.Since(start))
	if killed != second || third == second || killed.Pid() != 0 {
		t.Fatalf("killed %s and promoted %s; the primary was %s", killed.Addr(), third.Addr(), second.Addr())
	}
	if got, err := third.Client(t).Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("on the third primary: %q, %v", got, err)
	}
	start = time.Now()
	killed.MustRestart(t)
	must(t, group.AwaitWhole(ctx))
	t.Logf("whole again in %v", time.Since(start))
}

func TestSentinelAndClusterSpeakTLS(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *redistest.Server{
		"sentinel": func(t *testing.T) *redistest.Server {
			return redistest.StartSentinel(t, redistest.WithMutualTLS()).Sentinels()[0]
		},
		"cluster": func(t *testing.T) *redistest.Server {
			return redistest.StartCluster(t, redistest.WithMutualTLS(), redistest.WithPassword("x")).Nodes()[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			must(t, start(t).Client(t).Ping(t.Context()).Err())
		})
	}
}

func TestClusterPromotesAReplicaAndMovesSlots(t *testing.T) {
	t.Parallel()
	start := time.Now()
	group := redistest.StartCluster(t, redistest.WithPassword("a b/@"))
	t.Logf("started in %v", time.Since(start))
	ctx := t.Context()
	slot, err := group.Slot(ctx, "{k}1")
	must(t, err)
	first, _, err := group.Owner(ctx, slot)
	must(t, err)
	client := first.Client(t)
	must(t, client.MSet(ctx, "{k}1", 1, "{k}2", 2, "{k}3", 3).Err())
	must(t, group.Settle(ctx))

	start = time.Now()
	m, err := group.BeginMigration(ctx, slot)
	must(t, err)
	if n, err := m.Move(ctx, 2); n != 2 || err != nil {
		t.Fatalf("moved %d, %v", n, err)
	}
	told := map[string]int{}
	count := func() {
		for _, key := range []string{"{k}1", "{k}2", "{k}3"} {
			switch err := client.Get(ctx, key).Err(); {
			case err == nil:
				told["ok"]++
			case redis.HasErrorPrefix(err, "ASK"):
				told["ASK"]++
			case redis.HasErrorPrefix(err, "MOVED"):
				told["MOVED"]++
			default:
				t.Error(err)
			}
		}
	}
	count()
	must(t, m.Finish(ctx))
	count()
	t.Logf("migrated in %v", time.Since(start))
	if told["ok"] != 1 || told["ASK"] != 2 || told["MOVED"] != 3 {
		t.Errorf("the old master answered %v", told)
	}
	must(t, group.AwaitWhole(ctx))

	second, _, err := group.Owner(ctx, slot)
	must(t, err)
	if second == first || second != m.To() {
		t.Fatal("the slot has not moved")
	}
	must(t, group.Settle(ctx))
	start = time.Now()
	third, err := group.Failover(ctx, slot)
	must(t, err)
	t.Logf("planned fail-over in %v", time.Since(start))
	start = time.Now()
	killed, fourth, err := group.KillMaster(ctx, slot)
	must(t, err)
	t.Logf("fail-over after a kill in %v", time.Since(start))
	if third == second || killed != third || fourth != second {
		t.Fatalf("owners: %s, %s, killed %s, %s", second.Addr(), third.Addr(), killed.Addr(), fourth.Addr())
	}
	if got, err := fourth.Client(t).Get(ctx, "{k}2").Result(); err != nil || got != "2" {
		t.Fatalf("on the fourth owner: %q, %v", got, err)
	}
	start = time.Now()
	killed.MustRestart(t)
	must(t, group.AwaitWhole(ctx))
	t.Logf("whole again in %v", time.Since(start))
}
