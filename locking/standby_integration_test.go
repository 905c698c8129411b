//go:build integration

package locking_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
)

// standby is a replica that takes its master's place with what it has by then.
type standby struct {
	primary, replica *redistest.Server
	link             *faultproxy.Proxy // between them
}

// follow makes one server, which is emptied, the replica of another.
func follow(t *testing.T, replica, primary *redistest.Server) *standby {
	t.Helper()
	s := &standby{primary, replica, faultproxy.Start(t, primary.Addr())}
	if err := primary.ControlClient(t).ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err(); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.ControlClient(t).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica has what its master has", func() bool {
		return replication(t, replica)["master_link_status"] == "up" && s.lacks(t) == 0
	})
	return s
}

// lacks is how many bytes of its master's commands have not come to the replica.
func (s *standby) lacks(t *testing.T) int {
	t.Helper()
	has, err := strconv.Atoi(replication(t, s.replica)["slave_repl_offset"])
	if err != nil {
		t.Fatal(err)
	}
	all, err := strconv.Atoi(replication(t, s.primary)["master_repl_offset"])
	if err != nil {
		t.Fatal(err)
	}
	return all - has
}

// cut ends replication; nobody notices.
func (s *standby) cut() { s.link.BlackHole(faultproxy.Both) }

// takeOver kills the master and makes the replica one.
func (s *standby) takeOver(t *testing.T) {
	t.Helper()
	until(t, "the replica lacks something", func() bool { return s.lacks(t) > 0 })
	s.primary.Kill()
	if err := s.replica.ControlClient(t).ReplicaOf(context.Background(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
}

func replication(t *testing.T, server *redistest.Server) map[string]string {
	t.Helper()
	info, err := server.ControlClient(t).InfoMap(t.Context(), "replication").Result()
	if err != nil {
		t.Fatal(err)
	}
	return info["Replication"]
}
