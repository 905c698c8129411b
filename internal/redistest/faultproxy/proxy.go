package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/loopback"
)

// Direction says which way bytes go.
type Direction int

const (
	// ToServer is the way of commands.
	ToServer Direction = 1 << iota
	// ToClient is the way of replies.
	ToClient
	// Both ways.
	Both = ToServer | ToClient
)

// Chaos are faults at random, each as a probability from 0 to 1 for every piece
// of data that passes: a command or a reply, as a rule.
type Chaos struct {
	LoseReply    float64       // close the connection instead of delivering a reply
	ResetCommand float64       // close it instead of delivering a command
	Delay        float64       // wait before delivering
	MaxDelay     time.Duration // the longest of these waits
}

// Counts is what a proxy did so far.
type Counts struct {
	Connections    int // accepted
	Refused        int // turned away: the server could not be reached, or Refuse came first
	Resets         int // connections closed by Reset and Chaos.ResetCommand
	RepliesLost    int // replies thrown away with their connection
	Swallowed      int // pieces that a black hole took
	ToServer, Back int // bytes delivered
}

// Proxy is a listener on a loopback port. Its methods are safe for concurrent
// use and take effect at once; what is on its way may still arrive.
type Proxy struct {
	port   int
	target atomic.Pointer[string] // another one with each Redirect, which holds mu

	running sync.WaitGroup
	ctx     context.Context // ends with the proxy
	end     context.CancelFunc

	mu       sync.Mutex
	listener net.Listener // nil while new connections are refused
	links    map[*link]struct{}
	closed   bool
	rules    rules
	random   *rand.Rand // nil: no chaos
	chaos    Chaos
	counts   Counts
}

// rules are the faults that were asked for.
type rules struct {
	delay   time.Duration
	swallow Direction
}

// Start runs a proxy to the server at target, a host:port, for the test.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := Run(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Run is Start for programs, which end it by Close.
func Run(target string) (*Proxy, error) {
	p := &Proxy{links: map[*link]struct{}{}}
	p.target.Store(&target)
	p.ctx, p.end = context.WithCancel(context.Background())
	if _, err := loopback.Listen(func(port int) error {
		p.port = port
		return p.listen()
	}); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// Addr is the host:port that clients dial.
func (p *Proxy) Addr() string { return loopback.Address(p.port) }

// Counts tells what happened so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Delay makes every piece wait before it is delivered, from now on. Zero ends
// it.
func (p *Proxy) Delay(d time.Duration) { p.change(func(r *rules) { r.delay = d }) }

// BlackHole lets connections live, present and new ones, and delivers nothing
// in that direction until Heal. What was swallowed never arrives.
func (p *Proxy) BlackHole(d Direction) { p.change(func(r *rules) { r.swallow |= d }) }

// BlackHolePresent is BlackHole for the present connections alone, for good:
// new ones work.
func (p *Proxy) BlackHolePresent(d Direction) {
	p.each(func(l *link) { l.swallow |= d })
}

// Reset closes all present connections with a reset.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetAll()
}

func (p *Proxy) resetAll() {
	for l := range p.links {
		p.counts.Resets++
		l.abort()
	}
}

// LoseReplies closes each present connection instead of delivering the next
// reply on it: the command ran, and nobody knows. New connections work.
func (p *Proxy) LoseReplies() { p.each(func(l *link) { l.loseNext = true }) }

// Refuse refuses new connections, as a server that is down does. Present ones
// stay.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// Redirect has new connections carried to another target, as a name that leads to
// who took over, and resets the present ones.
func (p *Proxy) Redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target.Store(&target)
	p.resetAll()
}

// Random begins faults at random, which depend on the seed and on the order of
// what passes.
func (p *Proxy) Random(seed uint64, chaos Chaos) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.random, p.chaos = rand.New(rand.NewPCG(seed, seed)), chaos
}

// Heal ends all faults, but for connections that are gone. The error is that of
// listening again after Refuse.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.random = rules{}, nil
	for l := range p.links {
		l.swallow, l.loseNext = 0, false
	}
	if p.listener != nil || p.closed {
		return nil
	}
	return p.listen()
}

// Close ends the proxy and its connections. Closing twice is fine.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.end()
		if p.listener != nil {
			_ = p.listener.Close()
		}
		for l := range p.links {
			l.abort()
		}
		defer loopback.Release(p.port)
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) change(do func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(&p.rules)
}

func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		do(l)
	}
}

// listen opens the port. Who calls it holds p.mu or is alone.
func (p *Proxy) listen() error {
	listener, err := (&net.ListenConfig{}).Listen(p.ctx, "tcp", p.Addr())
	if err != nil {
		return fmt.Errorf("faultproxy: listen: %w", err)
	}
	p.listener = listener
	p.running.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				continue
			}
			return
		}
		p.running.Go(func() { p.serve(listener, client) })
	}
}

// serve carries a connection. One that was accepted a moment before Refuse or Redirect,
// and is not carried by then, is refused: nobody could reset it.
func (p *Proxy) serve(listener net.Listener, client net.Conn) {
	target := p.target.Load()
	server, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", *target)
	l := &link{client: client}
	if err == nil {
		l.server = server
	}
	p.mu.Lock()
	served := err == nil && !p.closed && p.listener == listener && p.target.Load() == target
	switch {
	case served:
		p.counts.Connections++
		p.links[l] = struct{}{}
	case !p.closed:
		p.counts.Refused++
	}
	p.mu.Unlock()
	if served {
		p.running.Go(func() { p.pass(l, ToServer) })
		p.pass(l, ToClient)
	} else {
		l.abort()
	}
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}
