package notifier

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// proxy stands between a client and a server, with faults.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	open    map[*link]struct{}
	closing bool
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	mu             sync.Mutex
	deaf           bool // what the server says is thrown away
	cut            bool // and then the connection is closed
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, open: make(map[*link]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closing = true
		for l := range p.open {
			l.close()
		}
		p.mu.Unlock()
		_ = listener.Close()
		p.running.Wait()
	})
	return p
}

func (p *proxy) client(t *testing.T, change func(*redis.Options)) *redis.Client {
	t.Helper()
	o := &redis.Options{Addr: p.listener.Addr().String(), ContextTimeoutEnabled: true, MaxRetries: -1}
	if change != nil {
		change(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		if p.closing {
			l.close()
		}
		p.open[l] = struct{}{}
		p.mu.Unlock()
		p.running.Go(func() { _, _ = io.Copy(server, client); l.close() })
		p.running.Go(func() { l.copyReplies(); p.forget(l) })
	}
}

func (p *proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, l)
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

func (l *link) copyReplies() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		deaf, cut := l.deaf, l.cut
		l.mu.Unlock()
		if cut {
			return
		}
		if deaf {
			continue
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// blackHole lets the present connections live without ever delivering anything
// again. New ones work.
func (p *proxy) blackHole() { p.each(func(l *link) { l.deaf = true }) }

// loseReplies closes each present connection instead of delivering the next
// reply on it: the command ran, and nobody knows.
func (p *proxy) loseReplies() { p.each(func(l *link) { l.cut = true }) }

func (p *proxy) each(change func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.open {
		l.mu.Lock()
		change(l)
		l.mu.Unlock()
	}
}
