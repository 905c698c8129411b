package redisdial_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/internal/redisdial"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

// lines counts what go-redis writes about dials, for the whole process.
type lines struct{ atomic.Int64 }

func (l *lines) Printf(_ context.Context, format string, _ ...any) {
	if strings.Contains(format, "dial") {
		l.Add(1)
	}
}

var written lines

func TestMain(m *testing.M) {
	redis.SetLogger(&written)
	goleak.VerifyTestMain(m, leak.DeadDial())
}

// away is the address of a server that is closed, and what opens it.
func away(t *testing.T) (string, func()) {
	t.Helper()
	server := mini.Start(t)
	address := server.Addr()
	server.Close()
	return address, func() {
		mini.Restart(t, server)
	}
}

func options(address string) *redis.Options {
	return &redis.Options{Addr: address, PoolSize: 4, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true}
}

func TestHook_leaves_a_failed_dial_to_the_command_that_needed_it(t *testing.T) {
	address, open := away(t)
	before := written.Load()
	client := redisdial.NewClient(options(address))
	defer func() { _ = client.Close() }()
	for range 20 { // five times as many as the pool is large
		err := client.Get(t.Context(), "k").Err()
		if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" {
			t.Fatalf("got %v", err)
		}
	}
	open()
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("the first command of a Redis that is back: %v", err)
	}
	if got := written.Load() - before; got != 0 {
		t.Errorf("%d lines on the standard error", got)
	}
}

func TestHook_works_where_connections_are_kept_ready(t *testing.T) {
	address, open := away(t)
	o := options(address)
	o.MinIdleConns = 4
	client := redisdial.NewClient(o)
	defer func() { _ = client.Close() }()
	for range 20 {
		if err := client.Get(t.Context(), "k").Err(); err == nil {
			t.Fatal("nobody is there")
		}
	}
	open()
	// What was made ready for Redis while it was away is thrown away unused.
	failed := 0
	for range 20 {
		if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
			failed++
		}
	}
	if failed != 0 {
		t.Errorf("%d commands failed", failed)
	}
}

func TestHook_serves_the_nodes_of_a_Cluster(t *testing.T) {
	address, open := away(t)
	before := written.Load()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{address}, NewClient: redisdial.NewClient, PoolSize: 2, DialerRetries: 1, ContextTimeoutEnabled: true,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: address}}}}, nil
		},
	})
	defer func() { _ = cluster.Close() }()
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := cluster.Get(ctx, "k").Err(); err == nil {
			t.Fatal("nobody is there")
		}
		cancel()
	}
	open()
	if err := cluster.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("the first command of a Redis that is back: %v", err)
	}
	if got := written.Load() - before; got != 0 {
		t.Errorf("%d lines on the standard error", got)
	}
}
