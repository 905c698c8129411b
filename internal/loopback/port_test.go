package loopback

import (
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPortsAreFreeAndGivenOutOnce(t *testing.T) {
	t.Parallel()
	const count = 100
	ports := make(chan int, count)
	var group sync.WaitGroup
	for range count {
		group.Go(func() {
			port, err := Port()
			if err != nil {
				t.Error(err)
				return
			}
			ports <- port
		})
	}
	group.Wait()
	close(ports)
	seen := map[int]bool{}
	for port := range ports {
		t.Cleanup(func() { Release(port) })
		if seen[port] {
			t.Errorf("port %d was given out twice", port)
		}
		seen[port] = true
		if port < firstPort || port > lastPort {
			t.Errorf("port %d is out of range", port)
		}
	}
}

func TestPortIsNotOneThatSomebodyListensOn(t *testing.T) {
	t.Parallel()
	port, err := Port()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Release(port) })
	listener, err := net.Listen("tcp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	if free(port) {
		t.Errorf("port %d counts as free while somebody listens on it", port)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if !free(port) {
		t.Errorf("port %d counts as taken after its listener closed", port)
	}
}
