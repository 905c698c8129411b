package locking

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// LockManager gives out leases. *Manager implements it.
type LockManager interface {
	// Acquire returns the lease of resource, waiting for it if another holds
	// it. See Manager.Acquire.
	Acquire(ctx context.Context, resource string, opts ...Option) (*Lease, error)
}

var _ LockManager = (*Manager)(nil)

// masters is what a Manager needs of the Redis masters together.
type masters interface {
	obtain(ctx context.Context, k lockKeys, token string, ttl time.Duration) (*grant, error)
	extend(ctx context.Context, g *grant, ttl time.Duration) error
	release(ctx context.Context, k lockKeys, g *grant) (waited bool, err error)
	undo(ctx context.Context, k lockKeys, token string) error
	remaining(ctx context.Context, k lockKeys) (time.Duration, error)
}

// Manager is a LockManager on Redis. It is safe for concurrent use. Close ends
// it.
type Manager struct {
	opts      Options
	space     keys.Space
	telemetry *telemetry.Telemetry
	masters   masters
	waiter    waiter
	turns     *turns
	now       clock

	troubled atomic.Bool // the last call ended in an outage

	closing context.Context //nolint:containedctx // done when Close was called: the Manager's own life
	close   context.CancelFunc

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // acquisitions, kept leases, undoing
}

// New returns a Manager on client, which stays the caller's: Close does not
// close it. New does no I/O, so it does not fail for an unreachable Redis; its
// errors wrap ErrInvalidOptions.
//
// The client should have ContextTimeoutEnabled set; without it a command to a
// Redis that hangs ends by the client's ReadTimeout only, and less of a lease's
// life is left for another try. Waiting for a held resource uses up to 32
// connections more, made like the client's.
func New(client redis.UniversalClient, opts Options) (*Manager, error) {
	if client == nil {
		return nil, fmt.Errorf("locking: new: %w: client is nil; pass a connected redis.UniversalClient", ErrInvalidOptions)
	}
	master := newNode(client, systemClock)
	m, err := newManager(&quorum{nodes: []*node{master}}, systemClock, opts)
	if err != nil {
		return nil, err
	}
	m.waiter = newBells(client, master.ring, m.spawn)
	return m, nil
}

// newManager leaves the waiter to be set.
func newManager(masters masters, now clock, opts Options) (*Manager, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("locking: new: %w", err)
	}
	space, err := keys.NewSpace(opts.Namespace, "")
	if err != nil {
		return nil, fmt.Errorf("locking: new: %w: %w", ErrInvalidOptions, err)
	}
	tel, err := telemetry.New(telemetry.Config{
		Logger:         opts.Logger,
		Registerer:     opts.Registerer,
		TracerProvider: opts.TracerProvider,
	})
	if err != nil {
		return nil, fmt.Errorf("locking: new: %w", err)
	}
	m := &Manager{opts: opts, space: space, telemetry: tel, masters: masters, turns: newTurns(), now: now}
	m.closing, m.close = context.WithCancel(context.Background())
	return m, nil
}

// Acquire returns the lease of resource, a name of 1 to 1024 bytes. If another
// holds it, Acquire waits (see WithWait); waiters of one Manager are served in
// the order in which they came.
//
// ctx governs the acquisition only: the lease goes on when ctx ends, until its
// Release. If ctx ends first, Acquire returns its error, within 3 s even if
// Redis hangs, and whatever Redis may have granted is taken back in the
// background.
//
// Errors: ErrNotAcquired (held for the whole wait; try again later),
// ErrUnavailable (an outage), ErrDenied, ErrInvalidResource, ErrInvalidOptions,
// ErrClosed, or the error of ctx.
func (m *Manager) Acquire(ctx context.Context, resource string, opts ...Option) (*Lease, error) {
	req, err := m.opts.request(opts)
	if bad := keys.Check("resource", resource); bad != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrInvalidResource, bad))
	}
	if err != nil {
		return nil, fmt.Errorf("locking: acquire: %w", err)
	}
	if !m.begin() {
		return nil, fmt.Errorf("locking: acquire: the manager is %w", ErrClosed)
	}
	defer m.tasks.Done()

	ctx, span := m.telemetry.Tracer.Start(ctx, telemetry.SpanLockAcquire)
	defer span.End()
	a := newAcquisition(m, resource, req)
	lease, err := a.run(ctx)
	m.record(span, a, err)
	return lease, err
}

// record counts one acquisition.
func (m *Manager) record(span trace.Span, a *acquisition, err error) {
	outcome := outcomeOf(err)
	m.telemetry.Metrics.LockAcquire.WithLabelValues(outcome).Inc()
	if err == nil {
		m.telemetry.Metrics.LockWait.Observe(time.Since(a.started.mono).Seconds())
	} else {
		span.SetStatus(codes.Error, outcome)
	}
	span.SetAttributes(telemetry.AttrLockOutcome.String(outcome), telemetry.AttrLockContended.Bool(a.contended))
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return telemetry.LockAcquired
	case errors.Is(err, ErrNotAcquired):
		return telemetry.LockContended
	case errors.Is(err, ErrUnavailable):
		return telemetry.LockUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return telemetry.LockCanceled
	}
	return telemetry.LockFailed
}

// Close ends the Manager: acquisitions that wait return ErrClosed, leases that
// are still held end with cause ErrLost and are given back, and background work
// is waited for. It returns the error of ctx if that ends first; what is left
// then ends by itself, within seconds. Closing again waits again.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.close()

	done := make(chan struct{})
	go func() {
		m.tasks.Wait()
		close(done)
	}()
	defer m.waiter.close()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("locking: close: leases or waits are still ending: %w", context.Cause(ctx))
	}
}

// begin counts a task of the Manager. It reports false once Close was called;
// if true, the caller must call tasks.Done.
func (m *Manager) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.tasks.Add(1)
	return true
}

// spawn runs f in the background. The caller must itself be a task, so that
// Close cannot have finished.
func (m *Manager) spawn(f func()) { m.tasks.Go(f) }

// undoPauses are the times between two tries of something that is done in the
// background.
const (
	undoPauseFirst = 50 * time.Millisecond
	undoPauseLast  = 2 * time.Second
)

// persist calls do until it succeeds, is refused for good, or there is no
// sense in it any more: after atMost the lock has expired by itself. After
// Close it tries once.
func (m *Manager) persist(atMost time.Duration, do func(context.Context) error) {
	giveUp := time.Now().Add(atMost)
	for pause := undoPauseFirst; ; pause = min(2*pause, undoPauseLast) {
		ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
		err := do(ctx)
		cancel()
		if classOf(err) != rediserr.Unavailable || time.Now().Add(pause).After(giveUp) {
			return
		}
		if sleep(m.closing, jitter(pause)) != nil {
			return
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
