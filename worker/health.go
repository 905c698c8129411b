package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// Names of the connections in logs and metrics.
const (
	configsName = "configs"
	locksName   = "locks" // the leases' own connection to the Redis of the configs
)

func lockMasterName(i int) string { return fmt.Sprintf("lock-%d", i+1) }

// health tells whether the plugin's activities can have Redis: that of the configs,
// and a majority of the lock masters. It is safe for concurrent use.
type health struct {
	configs *redisstate.Health
	locks   []*redisstate.Health // none, the leases' own connection, or the lock masters

	mu      sync.Mutex
	away    absences
	changed chan struct{} // closed and replaced when a connection changes
	started bool
	stop    chan struct{}
	ending  sync.Once
	running sync.WaitGroup
}

func newHealth(configs *redisstate.Conn, locks *lockMasters) *health {
	h := &health{configs: configs.Health(), changed: make(chan struct{}), stop: make(chan struct{})}
	if locks.shared != nil {
		h.locks = append(h.locks, locks.shared.Health())
	}
	for _, m := range locks.masters {
		h.locks = append(h.locks, m.conn.Health())
	}
	return h
}

func (h *health) all() []*redisstate.Health {
	return append([]*redisstate.Health{h.configs}, h.locks...)
}

// start begins to watch all connections. Starting twice, or after close, does
// nothing.
func (h *health) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.stop:
		return
	default:
	}
	if h.started {
		return
	}
	h.started = true
	for _, one := range h.all() {
		one.Start()
		h.running.Go(func() { h.follow(one) })
	}
}

// follow looks again at every change of one connection.
func (h *health) follow(one *redisstate.Health) {
	for {
		changed := one.Changed()
		h.look()
		select {
		case <-changed:
		case <-h.stop:
			return
		}
	}
}

// look tells that a connection's state has changed, whatever Available makes of
// it: it looks at the connections itself, and may have changed before us.
func (h *health) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away.note(time.Now(), !h.Available())
	close(h.changed)
	h.changed = make(chan struct{})
}

// awaySince is for how long Redis was not available since then.
func (h *health) awaySince(then time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away.since(then, time.Now())
}

// close ends what start began. The connections end their own part when they are
// closed.
func (h *health) close() {
	h.mu.Lock()
	h.ending.Do(func() { close(h.stop) })
	h.mu.Unlock()
	h.running.Wait()
}

// Available tells whether work that needs Redis may go on.
func (h *health) Available() bool {
	if !h.configs.Available() {
		return false
	}
	away := 0
	for _, one := range h.locks {
		if !one.Available() {
			away++
		}
	}
	return away <= len(h.locks)/2
}

// Changed is closed when what Available says may have changed. Take it before
// Available, so that no change is missed.
func (h *health) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// known tells whether every connection was asked.
func (h *health) known() bool {
	for _, one := range h.all() {
		if one.Status().State == redisstate.HealthUnknown {
			return false
		}
	}
	return true
}
