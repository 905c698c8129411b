package faultproxy

import (
	"net"
	"time"
)

// link is one connection through the proxy. Its switches are guarded by
// Proxy.mu.
type link struct {
	client, server net.Conn // server is nil if it could not be reached
	swallow        Direction
	loseNext       bool
}

// abort closes both sides with a reset, so that a reader sees an error and not
// an orderly end. It may be called more than once.
func (l *link) abort() {
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok && tcp != nil {
			_ = tcp.SetLinger(0)
		}
	}
	l.close()
}

// close ends both sides in order: what was delivered arrives.
func (l *link) close() {
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

// pass delivers what comes from one side to the other until either ends.
func (p *Proxy) pass(l *link, way Direction) {
	defer l.close()
	from, to := l.client, l.server
	if way == ToClient {
		from, to = l.server, l.client
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			what, wait := p.decide(l, way, n)
			if wait > 0 && !p.pause(wait) {
				return
			}
			switch what {
			case drop:
				l.abort()
				return
			case deliver:
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			case swallow:
			}
		}
		if err != nil {
			return
		}
	}
}

// fate is what becomes of a piece of data.
type fate int

const (
	deliver fate = iota
	swallow
	drop // with its connection
)

// decide says what becomes of n bytes and how long they wait.
func (p *Proxy) decide(l *link, way Direction, n int) (fate, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := p.rules.delay
	if p.random != nil && p.random.Float64() < p.chaos.Delay {
		wait += time.Duration(p.random.Float64() * float64(p.chaos.MaxDelay))
	}
	switch {
	case (p.rules.swallow|l.swallow)&way != 0:
		p.counts.Swallowed++
		return swallow, 0
	case way == ToClient && (l.loseNext || p.draw(p.chaos.LoseReply)):
		p.counts.RepliesLost++
		return drop, wait
	case way == ToServer && p.draw(p.chaos.ResetCommand):
		p.counts.Resets++
		return drop, wait
	}
	if way == ToServer {
		p.counts.ToServer += n
	} else {
		p.counts.Back += n
	}
	return deliver, wait
}

func (p *Proxy) draw(probability float64) bool {
	return p.random != nil && p.random.Float64() < probability
}

// pause waits and tells whether the proxy still runs.
func (p *Proxy) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
