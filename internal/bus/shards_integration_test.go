//go:build integration

package bus

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

// hanging is a server that takes connections and says nothing, until stop is called.
// connected tells of each.
func hanging(t *testing.T) (addr string, connected <-chan struct{}, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came, ended := make(chan struct{}, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			came <- struct{}{}
		}
	}()
	return l.Addr().String(), came, func() {
		_ = l.Close()
		<-ended
	}
}

// The owner of one slot hangs: channels of the others are listened to meanwhile.
func TestBus_does_not_wait_for_an_owner_that_hangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	addr, connected, stop := hanging(t)
	const inHanging, inHealthy = "foo", "bar" // slots 12182 and 5061
	var moved atomic.Bool                     // slots, to the one that hangs
	client := redis.NewClusterClient(&redis.ClusterOptions{
		ContextTimeoutEnabled: true, MaxRedirects: -1, DialTimeout: time.Minute, ReadTimeout: time.Minute,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			if !moved.Load() {
				return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: server.Addr()}}}}, nil
			}
			return []redis.ClusterSlot{
				{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: server.Addr()}}},
				{Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: addr}}},
			}, nil
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	// The client asks any node once which commands there are, and waits for the answer.
	if err := client.SPublish(t.Context(), inHealthy, "").Err(); err != nil {
		t.Fatal(err)
	}
	moved.Store(true)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	_, port, _ := net.SplitHostPort(addr) // of loopback addresses the client leaves the host out
	for owner := ""; owner != ":"+port; <-tick.C {
		client.ReloadState(t.Context())
		node, err := client.MasterForKey(t.Context(), inHanging)
		if err != nil {
			t.Fatal(err)
		}
		owner = node.Options().Addr
	}
	b := New(client, Options{
		Probe: "probe", ProbeEvery: time.Minute, Timeout: time.Minute,
		Op: "test: listen", Family: "test", Log: slog.New(slog.DiscardHandler), Sharded: client,
	})
	t.Cleanup(b.Close)
	t.Cleanup(stop) // before the bus is closed, which waits for an answer
	hangs := listen(b, inHanging)
	next(t, connected)
	healthy := listen(b, inHealthy)
	wait(t, healthy)
	if err := client.SPublish(t.Context(), inHealthy, "hello").Err(); err != nil {
		t.Fatal(err)
	}
	if got := next(t, healthy.heard); got != "hello" {
		t.Errorf("heard %q", got)
	}
	if len(hangs.confirmed) > 0 {
		t.Error("a channel counts as subscribed that is not")
	}
	hangs.Close() // nobody wants the other owner any more: what becomes of it is no news
	stop()
	for range 300 { // as long as the client takes to give up
		if <-tick.C; !b.Connected() {
			t.Fatal("the connection counts as lost that nobody wants")
		}
	}
}
