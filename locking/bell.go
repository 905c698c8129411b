package locking

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// bellLines bounds the waits of one process that listen at the same time;
	// each takes a connection. The rest poll, until they are let in: see bells.enter.
	bellLines = 64
	// bellPatience is how often a listening waiter looks at the lock all the
	// same: its holder may have died, and so may the waiter that heard the
	// last ring.
	bellPatience = time.Second
	// bellDoubt is after how long a wait that heard nothing listens on another
	// connection too; then after twice the time, and so on.
	bellDoubt = 2 * time.Second
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
	marks bool                                                // who releases looks for a mark
	pass  func(ctx context.Context, k lockKeys) (bool, error) // rings for the next waiter
	spawn func(func())
	doubt time.Duration // bellDoubt

	mu      sync.Mutex
	lines   []*line                  // bellLines at most, the oldest first
	clients map[string]*redis.Client // by address
	resting time.Time                // poll until then
	closed  bool
}

// quorumBells listens on the master where the waiters of a resource meet.
type quorumBells struct {
	home  func(lockKeys) int
	bells []*bells
}

func (q quorumBells) listen(k lockKeys, atMost time.Duration, polite bool) vigil {
	return q.bells[q.home(k)].listen(k, atMost, polite)
}

func (q quorumBells) close() {
	for _, b := range q.bells {
		b.close()
	}
}

func newBells(base redis.UniversalClient, marks bool, pass func(context.Context, lockKeys) (bool, error), spawn func(func())) *bells {
	return &bells{
		base:    base,
		marks:   marks,
		pass:    pass,
		spawn:   spawn,
		doubt:   bellDoubt,
		clients: make(map[string]*redis.Client),
	}
}

func (b *bells) listen(k lockKeys, atMost time.Duration, polite bool) vigil {
	v := &bellVigil{bells: b, keys: k, until: time.Now().Add(atMost), heard: make(chan struct{}, 1), polite: polite}
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

// drop closes the connections to a master. The waits that go on beside poll; later ones
// get new connections.
func (b *bells) drop(client *redis.Client) {
	b.mu.Lock()
	if addr := client.Options().Addr; b.clients[addr] == client {
		delete(b.clients, addr)
	}
	b.mu.Unlock()
	_ = client.Close()
}

// enter gives a line. If there is none, who has listened longest leaves, so that there is
// one in a moment: whoever polls comes behind all who listen, again and again where a
// lock is never free for long.
func (b *bells) enter() (l *line, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.lines) < bellLines {
		l = &line{done: make(chan struct{}), since: now}
		b.lines = append(b.lines, l)
		return l, true
	}
	oldest, patience := b.lines[0], bellPatience
	if i := slices.IndexFunc(b.lines, func(l *line) bool { return l.spare && !l.leaves }); i >= 0 {
		oldest, patience = b.lines[i], 0 // it is needed least
	}
	if !oldest.leaves && now.Sub(oldest.since) >= patience {
		oldest.leaves = true
		spare := oldest.spare
		b.spawn(func() { b.evict(oldest, spare) })
	}
	return nil, false
}

// spare gives a line to a wait that has one, if there is one that nobody wants.
func (b *bells) spare() (l *line, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.lines) >= bellLines || b.closed || now.Before(b.resting) {
		return nil, false
	}
	l = &line{done: make(chan struct{}), since: now, spare: true}
	b.lines = append(b.lines, l)
	return l, true
}

// promote says that a spare line is the only one of its wait.
func (b *bells) promote(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.spare = false
}

// evict has a line end that another wait wants, unless it is a spare one no more. If it is
// not blocked, or Redis does not answer, it stays for a while more.
func (b *bells) evict(l *line, spare bool) {
	if b.stays(l, spare) {
		return
	}
	ended, err := b.retire(l)
	if ended {
		return
	}
	if err != nil {
		b.rest(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l.leaves, l.since = false, time.Now()
}

// stays lets a line stay that has become the only one of its wait.
func (b *bells) stays(l *line, spare bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if spare && !l.spare {
		l.leaves = false
		return true
	}
	return false
}

// retire has a line end, and tells whether it does. One that does not hear of its end is
// half-open: it is no longer counted, and is closed at the end of its wait.
func (b *bells) retire(l *line) (ended bool, err error) {
	if ended, err = l.unblock(); !ended {
		return false, err
	}
	patience := time.NewTimer(bellTimeout)
	defer patience.Stop()
	select {
	case <-l.done:
	case <-patience.C:
		b.leave(l)
	}
	return true, nil
}

func (b *bells) evicts(l *line) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return l.leaves
}

// unblock ends a blocked command. It asks more than once, because the command
// may still be on its way. Nobody will ever answer it if the connection is
// half-open; so then that is closed, with those beside it.
func (b *bells) unblock(l *line) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.Now().Add(bellTimeout)
	for {
		if _, err := l.unblock(); err != nil && classOf(err) != rediserr.Unavailable {
			b.rest(err)
			if client := l.blockedOn(); client != nil { // else it would end with the wait's own time
				b.drop(client)
			}
			return
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
			b.drop(client)
		}
		return
	}
}

func (b *bells) leave(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = slices.DeleteFunc(b.lines, func(other *line) bool { return other == l })
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

// spareListener is the name of those that listen beside another of the same wait.
const spareListener = "lock-spare"

// listener names the connections that listen for one lock.
func listener(k lockKeys) string {
	sum := sha256.Sum256([]byte(k.queue))
	return listenerPrefix + base64.RawURLEncoding.EncodeToString(sum[:15])
}
