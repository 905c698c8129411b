package redisstate

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// lossy is a proxy that loses answers: it passes a request on, waits for the
// server's answer and then ends the client's connection instead of giving it.
type lossy struct {
	addr string
	// lose tells whether the answer to a request is lost.
	lose func(request []byte) bool
	lost atomic.Int64
}

func newLossy(t *testing.T, server string, lose func(request []byte) bool) *lossy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{addr: listener.Addr().String(), lose: lose}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client, server) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return p
}

func (p *lossy) serve(client net.Conn, server string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	var losing atomic.Bool
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := upstream.Read(buffer)
			switch {
			case err != nil && losing.Load():
				p.lost.Add(1)
				return
			case err != nil:
				return
			case losing.Load():
				continue // to the end, so that all of the request is executed
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			_ = upstream.Close()
			return
		}
		lose := p.lose(buffer[:n])
		losing.Store(lose)
		if _, err := upstream.Write(buffer[:n]); err != nil || lose {
			_ = upstream.(*net.TCPConn).CloseWrite()
			answers.Wait()
			_ = upstream.Close()
			return
		}
	}
}

// everyThird loses the answer to every third request with a command in it.
func everyThird(command string) func([]byte) bool {
	var seen atomic.Int64
	return func(request []byte) bool {
		return bytes.Contains(bytes.ToLower(request), []byte("\r\n"+command+"\r\n")) && seen.Add(1)%3 == 0
	}
}
