package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The range lies above the registered ports that services of this project and
// their neighbours use, and below what Linux (32768) and macOS (49152) give to
// outgoing connections. Port+10000 is a Redis Cluster bus port and stays below
// that bound too.
const (
	firstPort = 12000
	lastPort  = 21999
	attempts  = 200
)

// ErrNoPort says that no free port was found.
var ErrNoPort = errors.New("loopback: no free port")

var taken = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Port returns a TCP port of 127.0.0.1 on which nothing listens. The port is
// not given out again in this process until Release. It is safe for concurrent
// use.
func Port() (int, error) {
	taken.Lock()
	defer taken.Unlock()
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if taken.ports[port] || !free(port) {
			continue
		}
		taken.ports[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("%w between %d and %d after %d attempts", ErrNoPort, firstPort, lastPort, attempts)
}

// Release lets Port give this port out again.
func Release(port int) {
	taken.Lock()
	defer taken.Unlock()
	delete(taken.ports, port)
}

// Address is the host:port of a port on 127.0.0.1.
func Address(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func free(port int) bool {
	listener, err := net.Listen("tcp", Address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
