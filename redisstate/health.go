package redisstate

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/temporal-redis/internal/health"
	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// HealthState is what a Health knows.
type HealthState int

// The states.
const (
	// HealthUnknown: nothing was asked yet, or Health was not started.
	HealthUnknown HealthState = iota
	// HealthUp: Redis answers and takes writes.
	HealthUp
	// HealthDegraded: something failed and it is not clear yet what that means, or
	// a part of a Cluster's masters is away.
	HealthDegraded
	// HealthDown: Redis does not serve this connection; what needs it should wait.
	HealthDown
)

// String is the state's name in logs and metrics: unknown, up, degraded, down.
func (s HealthState) String() string {
	switch s {
	case HealthUp:
		return telemetry.HealthUp
	case HealthDegraded:
		return telemetry.HealthDegraded
	case HealthDown:
		return telemetry.HealthDown
	}
	return telemetry.HealthUnknown
}

// HealthStatus is what a Health knows, and since when.
type HealthStatus struct {
	State HealthState
	// Since is when the state began; the zero time before the first answer.
	Since time.Time
	// Reason is one of a few words: connection, timeout, loading, busy, readonly,
	// oom, denied, ... It is empty while Redis is up.
	Reason string
	// Denied says that the reason is the user, the password, the ACL rules or TLS,
	// which passes only when an operator acts.
	Denied bool
}

// Health tells whether the Redis of a Conn can be used: from what the operations of
// its client meet, and from a small write of its own where nobody asks. What begins
// and ends an outage is logged once and counted (docs/operations.md). A client of
// the host's own is listened to only with InstrumentClient; else the writes alone
// count. It is safe for concurrent use.
type Health struct{ monitor *health.Monitor }

// Start begins to watch, and to write at most once a second while Redis is well. It
// returns at once. The Conn's Close ends it. Starting twice does nothing.
func (h *Health) Start() { h.monitor.Start() }

// Status is what is known now.
func (h *Health) Status() HealthStatus {
	s := h.monitor.Status()
	return HealthStatus{
		State: stateOf[s.State], Since: s.Since, Reason: string(s.Reason), Denied: s.Class == rediserr.Denied,
	}
}

var stateOf = map[health.State]HealthState{
	health.Unknown: HealthUnknown, health.Up: HealthUp, health.Degraded: HealthDegraded, health.Down: HealthDown,
}

// Changed is closed at the next change of the state. Take it before Status, so that
// no change is missed.
func (h *Health) Changed() <-chan struct{} { return h.monitor.Changed() }

// Available tells whether work may go on: the state is not HealthDown.
func (h *Health) Available() bool { return h.monitor.Available() }

// AwaitAvailable returns nil once the state is not HealthDown, else the error of
// ctx.
func (h *Health) AwaitAvailable(ctx context.Context) error { return h.monitor.AwaitAvailable(ctx) }

// Health tells whether Redis can be used, once it is started.
func (c *Conn) Health() *Health { return &c.health }

// watch gives the connection its monitor, which hears what the hook does. The
// function ends both.
func (c *Conn) watch(o Options, tel *telemetry.Telemetry, h *hook) (end func() error, err error) {
	space, err := keys.NewSpace(o.Namespace, "")
	if err != nil {
		return nil, invalid("Namespace: %w", err)
	}
	monitor := health.New(c.client, health.Options{
		Name: o.Name, Space: space, Log: tel.Log, Metrics: tel.Metrics, Host: o.Client != nil,
	})
	c.health = Health{monitor}
	if h == nil {
		return monitor.Close, nil
	}
	h.heard.add(monitor)
	return func() error {
		h.heard.remove(monitor)
		return monitor.Close()
	}, nil
}

// observers are the monitors that hear of a client's operations: a client of the
// host's may be in several connections, one after the other. The zero value is
// ready.
type observers struct {
	mu  sync.Mutex
	all atomic.Pointer[[]*health.Monitor] // replaced, never changed
}

func (o *observers) observe(err error, class rediserr.Class) {
	if all := o.all.Load(); all != nil {
		for _, m := range *all {
			m.Observe(err, class)
		}
	}
}

func (o *observers) add(m *health.Monitor) {
	o.change(func(all []*health.Monitor) []*health.Monitor { return append(all, m) })
}

func (o *observers) remove(m *health.Monitor) {
	o.change(func(all []*health.Monitor) []*health.Monitor {
		return slices.DeleteFunc(all, func(other *health.Monitor) bool { return other == m })
	})
}

func (o *observers) change(do func([]*health.Monitor) []*health.Monitor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*health.Monitor
	if old := o.all.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = do(all)
	o.all.Store(&all)
}

// maxName bounds a name in metrics.
const maxName = 32

// validateName checks what becomes the value of a label.
func validateName(name string) error {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return invalid("Name is %.40q; use a-z, 0-9, - and _, one of a few fixed names", name)
		}
	}
	if len(name) > maxName {
		return invalid("Name is %d characters long; use at most %d", len(name), maxName)
	}
	return nil
}
