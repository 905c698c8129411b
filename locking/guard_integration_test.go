//go:build integration

package locking_test

import (
	"encoding/json"
	"net"
	"sync"
	"testing"

	"github.com/compozy/temporal-redis/locking"
)

// guard is a store that remembers the highest fence and refuses lower ones, and the
// same one of another lease, as the one in examples/pgstate.
type guard struct {
	addr string

	mu                sync.Mutex
	fence             uint64
	lease             string
	accepted, refused int
}

func newGuard(t *testing.T) *guard {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return g
}

func (g *guard) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var c locking.Claim
		if in.Decode(&c) != nil || out.Encode(locking.Answer{Accepted: g.take(c)}) != nil {
			return
		}
	}
}

// writes is how many were accepted.
func (g *guard) writes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted
}

func (g *guard) refusals() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

func (g *guard) take(c locking.Claim) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.Fence < g.fence || (c.Fence == g.fence && c.Lease != g.lease) {
		g.refused++
		return false
	}
	g.fence, g.lease = c.Fence, c.Lease
	g.accepted++
	return true
}
