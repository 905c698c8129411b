//go:build integration

package notifier_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
)

// shard is a workflow id whose log is on a master of its own.
type shard struct {
	id     string
	slot   int
	master *redistest.Server
	sub    *notifier.Subscription
}

// shardsOf finds a workflow id for each master, and subscribes to it.
func shardsOf(t *testing.T, c *redistest.Cluster, h *notifier.Hub) (shards []*shard) {
	t.Helper()
	seen := make(map[*redistest.Server]bool)
	for n := 0; len(shards) < 3; n++ {
		s := &shard{id: fmt.Sprint("w", n)}
		s.slot, s.master = locate(t, c, s.id)
		if seen[s.master] {
			continue
		}
		seen[s.master] = true
		var err error
		if s.sub, err = h.Subscribe(t.Context(), s.id); err != nil {
			t.Fatal(err)
		}
		shards = append(shards, s)
	}
	return shards
}

func locate(t *testing.T, c *redistest.Cluster, id string) (slot int, master *redistest.Server) {
	t.Helper()
	slot, err := c.Slot(t.Context(), "workflow:"+id)
	if err != nil {
		t.Fatal(err)
	}
	if master, _, err = c.Owner(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	return slot, master
}

// listening is by bells only if they are sharded. Else they go from node to node, and some
// are lost while those find together again: then the idle readings tell.
func listening(sharded bool) notifier.SubscriberOptions {
	if sharded {
		return notifier.SubscriberOptions{Sharded: true, CheckEvery: time.Hour}
	}
	return notifier.SubscriberOptions{}
}

// publishTo is publish to each of the shards.
func publishTo(t *testing.T, p *notifier.BackgroundPublisher, shards []*shard, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		for _, s := range shards {
			ev := running(n)
			ev.WorkflowID = s.id
			if err := p.Publish(ev); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func follow(t *testing.T, shards []*shard, from, to int) {
	t.Helper()
	for _, s := range shards {
		follows(t, s.sub, from, to)
	}
}

// earsOf are the connections to a server that listen to sharded channels.
func earsOf(t *testing.T, server *redistest.Server) (ids []string) {
	t.Helper()
	list, err := server.ControlClient(t).ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if id, _, _ := strings.Cut(line, " "); !strings.Contains(line, " ssub=0 ") {
			ids = append(ids, id)
		}
	}
	return ids
}

// A shard that has neither master nor replica: the others do not notice. When it is back,
// without its data, that is told, and then all that was published meanwhile.
func TestHub_goes_on_while_a_shard_is_away(t *testing.T) {
	t.Parallel()
	for name, sharded := range map[string]bool{"sharded": true, "not sharded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, redistest.WithConfig("cluster-require-full-coverage", "no"))
			p := openPublisher(t, clusterClient(t, cluster), notifier.PublisherOptions{Sharded: sharded})
			h := openHub(t, clusterClient(t, cluster), listening(sharded))
			shards := shardsOf(t, cluster, h)
			publishTo(t, p, shards, 0, 10)
			follow(t, shards, 0, 10)

			gone, others := shards[0], shards[1:]
			master, replica, err := cluster.Owner(t.Context(), gone.slot)
			if err != nil {
				t.Fatal(err)
			}
			ears := [][]string{earsOf(t, others[0].master), earsOf(t, others[1].master)}
			if sharded != (len(ears[0]) == 1 && len(ears[1]) == 1) {
				t.Errorf("the others are listened to by %q", ears)
			}
			replica.Kill()
			master.Kill()
			tick := time.NewTicker(150 * time.Millisecond) // long enough for some attempts to reach it to fail
			defer tick.Stop()
			for n := 10; n < 50; n++ {
				publishTo(t, p, shards, n, n+1)
				follow(t, others, n, n+1)
				<-tick.C
			}
			if late, err := h.Subscribe(t.Context(), others[0].id, notifier.FromStart()); err != nil {
				t.Errorf("who comes meanwhile is told %v", err)
			} else {
				follows(t, late, 0, 50)
			}
			if now := [][]string{earsOf(t, others[0].master), earsOf(t, others[1].master)}; !reflect.DeepEqual(now, ears) {
				t.Errorf("the others are listened to by %q; before it was %q", now, ears)
			}
			select {
			case ev := <-gone.sub.Events():
				t.Errorf("of the shard that is away comes %+v", ev)
			default:
			}

			master.MustRestart(t)
			replica.MustRestart(t)
			if gap := next(t, gone.sub); gap.Kind != notifier.KindGap || gap.Reason != notifier.GapRestarted {
				t.Errorf("instead of a gap comes %+v", gap)
			}
			follows(t, gone.sub, 10, 50)
			publishTo(t, p, shards, 50, 60)
			follow(t, shards, 50, 60)
		})
	}
}

// A shard whose master dies and has a replica with all of its data: nothing is missing,
// and nothing is said to be.
func TestHub_misses_nothing_when_a_shard_fails_over(t *testing.T) {
	t.Parallel()
	for name, sharded := range map[string]bool{"sharded": true, "not sharded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t)
			p := openPublisher(t, clusterClient(t, cluster), notifier.PublisherOptions{Sharded: sharded})
			h := openHub(t, clusterClient(t, cluster), listening(sharded))
			shards := shardsOf(t, cluster, h)
			publishTo(t, p, shards, 0, 10)
			follow(t, shards, 0, 10)
			for round, s := range shards[:2] {
				if err := cluster.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.master.Kill()
				from := 10 + 20*round
				publishTo(t, p, shards, from, from+10) // nobody has taken its place
				follow(t, shards, from, from+10)
				publishTo(t, p, shards, from+10, from+20)
				follow(t, shards, from+10, from+20)
				s.master.MustRestart(t)
				if err := cluster.AwaitWhole(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
