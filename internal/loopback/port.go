package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
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

// taken holds, for each port that was given out, the UDP socket of the same number.
// The kernel gives that to one process at a time and takes it back when the process
// ends, however it ends: what a lock file would do, without the file.
var taken = struct {
	sync.Mutex
	ports map[int]net.PacketConn
}{ports: map[int]net.PacketConn{}}

// Port returns a TCP port of 127.0.0.1 on which nothing listens. The port is not
// given out again, here or in another process, until Release or the end of this
// process. It is safe for concurrent use.
func Port() (int, error) {
	taken.Lock()
	defer taken.Unlock()
	for range attempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if mark, ok := reserve(port); ok {
			taken.ports[port] = mark
			return port, nil
		}
	}
	return 0, fmt.Errorf("%w between %d and %d after %d attempts", ErrNoPort, firstPort, lastPort, attempts)
}

// tries bounds the ports of Listen.
const tries = 5

// Listen calls listen with a port of Port, and with another one if somebody took it before
// listen did (EADDRINUSE), five in all. It returns the port, which is to be given to Release,
// or the last error. It is safe for concurrent use.
func Listen(listen func(port int) error) (int, error) {
	for n := 1; ; n++ {
		port, err := Port()
		if err != nil {
			return 0, err
		}
		if err = listen(port); err == nil {
			return port, nil
		}
		Release(port)
		if n == tries || !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
	}
}

// Release lets Port give this port out again. Releasing twice is fine.
func Release(port int) {
	taken.Lock()
	defer taken.Unlock()
	if mark, ok := taken.ports[port]; ok {
		_ = mark.Close() // nothing was written
		delete(taken.ports, port)
	}
}

// Address is the host:port of a port on 127.0.0.1.
func Address(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// reserve takes the port unless somebody has it.
func reserve(port int) (mark net.PacketConn, ok bool) {
	mark, err := net.ListenPacket("udp", Address(port))
	if err != nil {
		return nil, false
	}
	if !free(port) {
		_ = mark.Close() // nothing was written
		return nil, false
	}
	return mark, true
}

// free tells whether nobody listens on the port. Meanwhile no process is started from
// this one: it would have a copy of the listener until it has become another program,
// and the port would be taken for that long.
func free(port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := net.Listen("tcp", Address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
