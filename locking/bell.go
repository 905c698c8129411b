package locking

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// bellLines bounds the waits of one process that listen at the same time;
	// each takes a connection. The rest poll.
	bellLines = 16
	// bellPatience is how often a listening waiter looks at the lock all the
	// same: its holder may have died, and so may the waiter that heard the
	// last ring.
	bellPatience = time.Second
	// bellTimeout bounds the commands around the listening.
	bellTimeout = 3 * time.Second
	// bellRest is how long to poll after Redis refused to let us listen.
	bellRest = time.Minute
)

var errNoBell = errors.New("no connection of its own can be made from this client")

// bells is a waiter that is woken by the releaser: a BZPOPMIN per wait, which
// Redis serves in the order in which they came, on connections of its own, so
// that waiting never takes a connection from working. Where that is not to be
// had (no free line, a refusal by ACL, embedded Redis) its vigils poll.
type bells struct {
	base  redis.UniversalClient
	pass  func(ctx context.Context, k lockKeys) error // rings for the next waiter
	spawn func(func())
	lines chan struct{}

	mu      sync.Mutex
	clients map[string]*redis.Client // by address
	resting time.Time                // poll until then
	closed  bool
}

// quorumBells listens on the master where the waiters of a resource meet.
type quorumBells struct {
	home  func(lockKeys) int
	bells []*bells
}

func (q quorumBells) listen(k lockKeys, atMost time.Duration) vigil {
	return q.bells[q.home(k)].listen(k, atMost)
}

func (q quorumBells) close() {
	for _, b := range q.bells {
		b.close()
	}
}

func newBells(base redis.UniversalClient, pass func(context.Context, lockKeys) error, spawn func(func())) *bells {
	return &bells{
		base:    base,
		pass:    pass,
		spawn:   spawn,
		lines:   make(chan struct{}, bellLines),
		clients: make(map[string]*redis.Client),
	}
}

func (b *bells) listen(k lockKeys, atMost time.Duration) vigil {
	v := &bellVigil{bells: b, keys: k, until: time.Now().Add(atMost), heard: make(chan struct{}, 1)}
	v.again()
	return v
}

func (b *bells) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, client := range b.clients {
		_ = client.Close()
	}
}

// drop closes the connections to a master; the waits that go on get new ones.
func (b *bells) drop(client *redis.Client) {
	b.mu.Lock()
	if addr := client.Options().Addr; b.clients[addr] == client {
		delete(b.clients, addr)
	}
	b.mu.Unlock()
	_ = client.Close()
}

// rest makes later vigils poll for a while if err says that listening is
// refused, not just interrupted.
func (b *bells) rest(err error) {
	if classOf(err) == rediserr.Unavailable || errors.Is(err, redis.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resting = time.Now().Add(bellRest)
}

func (b *bells) rests() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed || time.Now().Before(b.resting)
}

// client is a client like the host's for the master that holds key, with a
// small pool.
func (b *bells) client(ctx context.Context, key string) (*redis.Client, error) {
	var home *redis.Client
	switch base := b.base.(type) {
	case *redis.Client:
		home = base
	case *redis.ClusterClient:
		var err error
		if home, err = base.MasterForKey(ctx, key); err != nil {
			return nil, err
		}
	default:
		return nil, errNoBell
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, redis.ErrClosed
	}
	addr := home.Options().Addr
	if client, ok := b.clients[addr]; ok {
		return client, nil
	}
	client := redis.NewClient(bellOptions(home.Options()))
	b.clients[addr] = client
	return client, nil
}

func bellOptions(host *redis.Options) *redis.Options {
	opts := *host
	opts.PoolSize = 2 * bellLines // a line, and the command that ends it
	opts.MinIdleConns = 0
	opts.MaxIdleConns = bellLines
	opts.MaxActiveConns = 0
	opts.ConnMaxIdleTime = time.Minute
	opts.DialerRetries = 1
	opts.MaxRetries = -1 // a wait that broke is not begun anew: it lost its place
	opts.ReadTimeout = bellTimeout
	opts.WriteTimeout = bellTimeout
	opts.PoolTimeout = bellTimeout
	opts.ContextTimeoutEnabled = true
	opts.Limiter = nil
	opts.PushNotificationProcessor = nil // the host client's own
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.ClientSideCache = nil
	opts.ClientSideCacheConfig = nil
	return &opts
}

// listenerPrefix begins the names of connections that listen.
const listenerPrefix = "lock-waiter-"

// listener names the connections that listen for one lock.
func listener(k lockKeys) string {
	sum := sha256.Sum256([]byte(k.queue))
	return listenerPrefix + base64.RawURLEncoding.EncodeToString(sum[:15])
}

// bellVigil is one wait. It listens for the whole of it with one command: who
// asks again goes to the end of the line.
type bellVigil struct {
	bells *bells
	keys  lockKeys
	until time.Time
	heard chan struct{}
	poll  poller

	mu    sync.Mutex
	line  *line // nil: not listening
	deaf  bool
	ended bool
}

// line is one blocked command.
type line struct {
	done chan struct{} // closed when it is over

	// mu is held while the command is being unblocked, so that the connection
	// does not go back to its pool, and to another wait, meanwhile.
	mu     sync.Mutex
	client *redis.Client
	id     int64 // of the blocked connection, 0 before and after
}

func (v *bellVigil) rung() <-chan struct{} { return v.heard }

func (v *bellVigil) patience(remaining time.Duration) time.Duration {
	v.mu.Lock()
	deaf := v.deaf
	v.mu.Unlock()
	if deaf {
		return v.poll.patience(remaining)
	}
	pause := bellPatience
	if remaining > 0 {
		pause = min(pause, remaining)
	}
	return pause + jitter(pause/10)
}

func (v *bellVigil) again() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended || v.deaf || v.line != nil {
		return
	}
	if v.bells.rests() {
		v.deaf = true
		return
	}
	select {
	case v.bells.lines <- struct{}{}:
	default:
		v.deaf = true
		return
	}
	l := &line{done: make(chan struct{})}
	v.line = l
	v.bells.spawn(func() {
		defer func() { <-v.bells.lines }()
		v.settle(l, v.hear(l))
	})
}

// hear blocks until there is a ring, and returns nil for one.
func (v *bellVigil) hear(l *line) error {
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	client, err := v.bells.client(ctx, v.keys.queue)
	if err != nil {
		return err
	}
	conn := client.Conn()
	defer func() { _ = conn.Close() }() // back to the pool
	var id *redis.IntCmd
	_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		id = p.ClientID(ctx)
		p.ClientSetName(ctx, listener(v.keys)) // for List; no matter if it may not
		return nil
	})
	if id.Err() != nil {
		return id.Err()
	}
	l.block(client, id.Val())
	defer l.block(nil, 0) // before conn is closed
	if v.over() {
		return redis.Nil
	}
	// Whole seconds, because that is what the typed command sends; end cuts it
	// short. The typed one, because its read time-out follows the wait.
	atMost := time.Duration(math.Ceil(time.Until(v.until).Seconds())+1) * time.Second
	return conn.BZPopMin(context.Background(), atMost, v.keys.queue).Err()
}

func (v *bellVigil) over() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

func (l *line) block(client *redis.Client, id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client, l.id = client, id
}

// blockedOn is nil if the command is not blocked.
func (l *line) blockedOn() *redis.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// unblock ends the command if it is blocked.
func (l *line) unblock() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	return l.client.ClientUnblock(ctx, l.id).Err()
}

// settle says what came of a line.
func (v *bellVigil) settle(l *line, err error) {
	refused := err != nil && !errors.Is(err, redis.Nil)
	v.mu.Lock()
	v.line = nil
	close(l.done)
	ended := v.ended
	if err != nil { // also an UNBLOCK that was not ours
		v.deaf = true
	}
	if !ended {
		v.heard <- struct{}{} // a ring, or a reason to look at once and often
	}
	v.mu.Unlock()
	switch {
	case refused && !ended:
		v.bells.rest(err)
	case err == nil && ended:
		v.passOn()
	}
}

func (v *bellVigil) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	v.ended = true
	if l := v.line; l != nil {
		v.bells.spawn(func() { v.unblock(l) })
	}
	select {
	case <-v.heard:
		v.bells.spawn(v.passOn)
	default:
	}
}

// unblock ends a blocked command. It asks more than once, because the command
// may still be on its way. Nobody will ever answer it if the connection is
// half-open; so then that is closed, with those beside it.
func (v *bellVigil) unblock(l *line) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.Now().Add(bellTimeout)
	for {
		if err := l.unblock(); err != nil && classOf(err) != rediserr.Unavailable {
			v.bells.rest(err)
			return // it ends with the wait's own time
		}
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		if time.Now().Before(giveUp) {
			continue
		}
		if client := l.blockedOn(); client != nil {
			v.bells.drop(client)
		}
		return
	}
}

func (v *bellVigil) passOn() {
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	_ = v.bells.pass(ctx, v.keys) // if it fails, the others look for themselves
}
