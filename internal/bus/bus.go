package bus

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Options are the settings of a Bus. All fields but Sharded are required.
type Options struct {
	Probe      string        // channel for the bus' own bell, not shared with another process
	ProbeEvery time.Duration // time between two of them, at least 50 ms
	Timeout    time.Duration // bound of dialling, and of one command
	Op         string        // operation in errors and logs, "notifier: subscribe"
	Family     string        // key family in errors and logs
	Log        *slog.Logger
	// Sharded, if not nil, is the client once more: the channels are sharded
	// (SSUBSCRIBE), with a connection to each owner of one's slot. Patterns hear nothing
	// of those.
	Sharded *redis.ClusterClient
}

// Listener is told what happens on a channel. Both functions run on the
// receiving goroutine and must not block.
type Listener struct {
	// Confirmed says that from now on messages come in; before, they may have
	// been missed.
	Confirmed func()
	// Message hands over a message. Either it or From is set.
	Message func(payload string)
	// From is Message with the channel, for listeners on a pattern.
	From func(channel, payload string)
}

// Bus is one pub/sub connection for many channels. Safe for concurrent use.
type Bus struct {
	client  redis.UniversalClient
	options Options

	changed chan struct{} // the wanted channels changed
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	started   bool
	channels  map[string]map[*Registration]struct{}
	confirmed map[string]bool // channels subscribed on the present connection
	failure   error           // of the last attempt, nil while listening
	failures  int             // how many there were
	failed    chan struct{}   // closed and replaced at each failure
}

// Registration is one listener on one channel.
type Registration struct {
	bus      *Bus
	channel  string
	listener Listener
	failures int           // of the bus, when it began
	first    chan struct{} // closed at the first confirmation
	once     sync.Once
}

// New returns a bus. It connects when somebody listens. The client stays the
// caller's.
func New(client redis.UniversalClient, options Options) *Bus {
	b := &Bus{
		client:    client,
		options:   options,
		changed:   make(chan struct{}, 1),
		channels:  make(map[string]map[*Registration]struct{}),
		confirmed: make(map[string]bool),
		failed:    make(chan struct{}),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Listen adds a listener. Channels that are asked for together, as after a lost
// connection, are confirmed in the order of their names. It does
// no I/O; Wait tells when the channel is subscribed.
func (b *Bus) Listen(name string, l Listener) *Registration {
	r := &Registration{bus: b, channel: name, listener: l, first: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.failures = b.failures
	if b.channels[name] == nil {
		b.channels[name] = make(map[*Registration]struct{})
		b.nudge()
	}
	b.channels[name][r] = struct{}{}
	if b.confirmed[name] {
		r.confirm()
	}
	if !b.started && b.ctx.Err() == nil {
		b.started = true
		b.running.Go(b.run)
	}
	return r
}

// patternMark begins the names of patterns among those of channels.
const patternMark = "\x00"

// ListenPattern is Listen on all channels whose names match a pattern, in the sense of
// PSUBSCRIBE.
func (b *Bus) ListenPattern(pattern string, l Listener) *Registration {
	return b.Listen(patternMark+pattern, l)
}

// Connected tells whether the connection is there, or is not needed.
func (b *Bus) Connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure == nil
}

// Close ends the registration. A call of its listener may still be under way.
func (r *Registration) Close() {
	b := r.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	listeners := b.channels[r.channel]
	delete(listeners, r)
	if listeners != nil && len(listeners) == 0 {
		delete(b.channels, r.channel)
		b.nudge()
	}
}

// Wait returns nil once the channel has been subscribed. It gives up when ctx
// ends, and at once when waiting is no use: a refused permission, a closed
// client or bus.
func (r *Registration) Wait(ctx context.Context) error {
	b := r.bus
	for {
		b.mu.Lock()
		failure, failed, ours := b.failure, b.failed, b.failures > r.failures
		b.mu.Unlock()
		select {
		case <-r.first:
			return nil
		default:
		}
		if failure != nil && ours && !passes(failure) {
			return failure
		}
		select {
		case <-r.first:
			return nil
		case <-failed:
		case <-b.ctx.Done():
			return rediserr.ErrClosed
		case <-ctx.Done():
			return b.gaveUp(ctx, failure)
		}
	}
}

// gaveUp tells why a wait was in vain. It is an outage also if the connection
// attempt had no result yet.
func (b *Bus) gaveUp(ctx context.Context, failure error) error {
	cause := errors.Join(context.Cause(ctx), failure)
	if errors.Is(ctx.Err(), context.Canceled) {
		return cause
	}
	return &rediserr.Error{Op: b.options.Op, Family: b.options.Family, Class: rediserr.Unavailable, Err: cause}
}

func passes(err error) bool {
	class := rediserr.Classify(context.Background(), err)
	return class == rediserr.Unavailable || class == rediserr.Canceled
}

// Close ends the connection and waits for the receiver. Listeners are not told.
func (b *Bus) Close() {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	b.running.Wait()
}

// nudge tells the running session that the wanted channels changed.
func (b *Bus) nudge() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (r *Registration) confirm() {
	r.once.Do(func() { close(r.first) })
	r.listener.Confirmed()
}

// Waits between attempts to connect.
const (
	firstRetry = 25 * time.Millisecond
	lastRetry  = 800 * time.Millisecond
)

// run keeps a connection as long as there is a channel.
func (b *Bus) run() {
	failures := 0
	for b.ctx.Err() == nil {
		if b.idle() {
			select {
			case <-b.changed:
			case <-b.ctx.Done():
			}
			continue
		}
		listened, err := b.session(failures)
		if b.ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if listened {
			failures = 0
		}
		b.fail(err)
		wait := min(firstRetry<<min(failures, 16), lastRetry)
		failures++
		b.pause(wait*3/4 + rand.N(wait/2)) // 0.75 to 1.25 of it
	}
}

func (b *Bus) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
}

// idle reports whether nobody listens.
func (b *Bus) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.channels) == 0
}

// fail notes that there is no connection, and says so once.
func (b *Bus) fail(err error) {
	err = rediserr.Wrap(b.ctx, b.options.Op, b.options.Family, err)
	b.mu.Lock()
	first := b.failure == nil
	b.failure = err
	b.failures++
	close(b.failed)
	b.failed = make(chan struct{})
	b.mu.Unlock()
	if first {
		b.options.Log.Warn("pub/sub connection lost", "op", b.options.Op, "family", b.options.Family, "error", err)
	}
}

// listening notes that there is a connection.
func (b *Bus) listening() {
	b.mu.Lock()
	again := b.failure != nil
	b.failure = nil
	b.mu.Unlock()
	if again {
		b.options.Log.Info("pub/sub connection is back", "op", b.options.Op, "family", b.options.Family)
	}
}
