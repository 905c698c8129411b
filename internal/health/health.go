package health

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// State is what a Monitor knows of its Redis.
type State int

// The states; the package's documentation tells what leads to each.
const (
	Unknown  State = iota // nothing was asked yet
	Up                    // Redis answers and takes writes
	Degraded              // something failed, or a part of a Cluster is away
	Down                  // Redis does not serve us
)

// String names the state for logs and metric labels.
func (s State) String() string {
	switch s {
	case Up:
		return telemetry.HealthUp
	case Degraded:
		return telemetry.HealthDegraded
	case Down:
		return telemetry.HealthDown
	}
	return telemetry.HealthUnknown
}

// Status is what a Monitor knows, and since when.
type Status struct {
	State State
	// Since is when the state began. The zero time before the first answer.
	Since time.Time
	// Class is what the last failure means; OK while the state is Up.
	Class rediserr.Class
	// Reason is why, in one of rediserr's words; none while the state is Up.
	Reason rediserr.Word
}

// Options say what a Monitor is called and where it reports.
type Options struct {
	// Name is what logs and metrics call the client: one of a few fixed words.
	// Defaults to "redis".
	Name string
	// Space makes the probe's keys. Defaults to that of keys.DefaultNamespace.
	Space keys.Space
	// Log receives the begin and the end of outages. Defaults to slog.Default().
	Log *slog.Logger
	// Metrics count them. Defaults to none.
	Metrics *telemetry.Metrics
	// Host says that the client is the host's own, which may dial in a way that
	// its options do not tell. Until the probe's own connection was answered once,
	// the client itself is asked too. Defaults to false.
	Host bool
}

// Monitor watches one client. New makes one. It is safe for concurrent use.
type Monitor struct {
	prober prober
	report *reporter

	answered atomic.Bool  // traffic was answered since this was last set to false
	down     atomic.Bool  // the state is Down
	refusals atomic.Int64 // operations that failed while it was
	watching atomic.Bool  // between Start and Close
	wake     chan struct{}

	mu      sync.Mutex
	machine machine
	changed chan struct{} // closed and replaced when the state changes
	started bool

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	closed  func() error
}

// New makes the monitor of a client: no I/O, and no goroutine before Start. The
// client stays the caller's, and has to be open until Close.
func New(client redis.UniversalClient, o Options) *Monitor {
	if o.Name == "" {
		o.Name = "redis"
	}
	if o.Space == (keys.Space{}) {
		o.Space, _ = keys.NewSpace("", "") // the default one is valid
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return newMonitor(proberOf(client, o), o)
}

func newMonitor(p prober, o Options) *Monitor {
	m := &Monitor{
		prober: p, report: newReporter(o), wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.closed = sync.OnceValue(m.end)
	return m
}

// Start begins to watch. What was observed before does not count. Starting twice,
// or after Close, does nothing.
func (m *Monitor) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.ctx.Err() != nil {
		return
	}
	m.started = true
	m.report.begin()
	m.watching.Store(true)
	m.running.Go(m.run)
}

// Close ends the watch and waits for its goroutine; the last state stays. Closing
// twice is fine. The error is that of closing the probe's own connections.
func (m *Monitor) Close() error { return m.closed() }

func (m *Monitor) end() error {
	m.mu.Lock()
	m.stop()
	m.watching.Store(false)
	m.mu.Unlock()
	m.running.Wait()
	m.mu.Lock()
	if m.started {
		m.report.end(m.machine.status.State)
	}
	m.mu.Unlock()
	return m.prober.close()
}

// Observe is told how each command or pipeline of the client ended. Canceled and
// Closed say nothing of Redis. It neither blocks on I/O nor allocates.
func (m *Monitor) Observe(err error, class rediserr.Class) {
	switch class {
	case rediserr.OK, rediserr.NotFound:
		m.heard()
	case rediserr.Permanent:
		if rediserr.IsReply(err) { // else it did not get to Redis
			m.heard()
		}
	case rediserr.Unavailable, rediserr.Denied:
		m.failed(err, class)
	}
}

// heard notes an answer. Nearly always the note is there already, and then no
// cache line is written.
func (m *Monitor) heard() {
	if !m.answered.Load() {
		m.answered.Store(true)
	}
}

// failed notes a failure of traffic. While Redis is away there may be many, and
// nothing is learned from them.
func (m *Monitor) failed(err error, class rediserr.Class) {
	if m.down.Load() {
		m.refusals.Add(1)
		return
	}
	why := rediserr.Why(err)
	if why == rediserr.WordConflict {
		m.heard()
		return
	}
	if !m.watching.Load() {
		return
	}
	var probe bool
	m.move(func(now time.Time) { probe = m.machine.traffic(now, class, why) })
	if probe {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// step is one step of the machine.
type step struct {
	now           time.Time
	before, after Status
	outage        outage
}

// move lets the machine take a step, and tells who waits for it.
func (m *Monitor) move(take func(now time.Time)) step {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := step{now: time.Now(), before: m.machine.status}
	take(s.now)
	s.after, s.outage = m.machine.status, m.machine.outage
	if is := s.after.State == Down; is != (s.before.State == Down) {
		m.down.Store(is)
		s.outage.operations += m.refusals.Swap(0)
	}
	m.report.measure(s)
	if s.after.State != s.before.State {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return s
}

// Status is what is known now.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.status
}

// Changed is closed at the next change of State. Take it before Status, so that no
// change is missed.
func (m *Monitor) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Available tells whether work may go on: the state is not Down.
// It costs an atomic load.
func (m *Monitor) Available() bool { return !m.down.Load() }

// AwaitAvailable returns nil once the state is not Down, else the error of ctx.
func (m *Monitor) AwaitAvailable(ctx context.Context) error {
	for {
		changed := m.Changed()
		if m.Available() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
