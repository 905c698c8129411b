//go:build integration

package locking_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// standby is a replica that takes its master's place with what it has by then.
type standby struct {
	primary, replica *redistest.Server
	above, below     *redis.Client     // of these two, in this order
	link             *faultproxy.Proxy // between them
}

// follow makes one server, which is emptied, the replica of another.
func follow(t *testing.T, replica, primary *redistest.Server) *standby {
	t.Helper()
	s := &standby{primary, replica, primary.ControlClient(t), replica.ControlClient(t), faultproxy.Start(t, primary.Addr())}
	if err := s.above.ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err(); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.below.ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica has what its master had", func() bool {
		bytes, known := s.lacks(t.Context())
		return known && bytes <= 0
	})
	return s
}

// lacks is how many bytes of its master's commands have not come to the replica, at
// least: the master is asked first. It is not known before they are synchronised.
func (s *standby) lacks(ctx context.Context) (bytes int, known bool) {
	above, below := replication(ctx, s.above), replication(ctx, s.below)
	all, err := strconv.Atoi(above["master_repl_offset"])
	if err != nil {
		return 0, false
	}
	has, err := strconv.Atoi(below["slave_repl_offset"])
	return all - has, err == nil && below["master_link_status"] == "up"
}

// cut ends replication; nobody notices.
func (s *standby) cut() { s.link.BlackHole(faultproxy.Both) }

// awaitLack waits until the replica lacks something that the master has.
func (s *standby) awaitLack(t *testing.T) {
	t.Helper()
	until(t, "the replica lacks something", func() bool {
		bytes, known := s.lacks(t.Context())
		return known && bytes > 0
	})
}

// takeOver makes the replica a master; the one before has been killed.
func (s *standby) takeOver(t *testing.T) {
	t.Helper()
	if err := s.below.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
}

func replication(ctx context.Context, client *redis.Client) map[string]string {
	info, err := client.InfoMap(ctx, "replication").Result()
	if err != nil {
		return nil
	}
	return info["Replication"]
}
