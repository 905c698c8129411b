package locking

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// claim begins what a token has on them; no I/O.
	claim(k lockKeys, token string) claim
	// remaining is how long the lock stays held if nobody renews it; 0 or less if
	// it is free. Who waits for it tells in what time it asks again at the latest (0: it
	// does not wait): who releases it may hear of that although it cannot wake anybody.
	remaining(ctx context.Context, k lockKeys, again time.Duration) (time.Duration, error)
	// forget has nobody hear any more of who waited so far. Who still does is heard of
	// when it asks again.
	forget(ctx context.Context, k lockKeys)
	// raise has the fences go on above the given one.
	raise(ctx context.Context, k lockKeys, fence uint64) error
	// close waits for what is under way. Nothing is called afterwards.
	close()
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
	longest   time.Duration // that a lease may live in Redis without renewal; 0: any

	troubled atomic.Bool // the last call ended in an outage

	closing context.Context //nolint:containedctx // done when Close was called: the Manager's own life
	close   context.CancelFunc

	losses losses

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // acquisitions, kept leases, undoing
}

// New returns a Manager on one master, which is all that NewQuorum says with one
// client.
func New(client redis.UniversalClient, opts Options) (*Manager, error) {
	return NewQuorum([]redis.UniversalClient{client}, opts)
}

// NewQuorum returns a Manager on independent masters: one, or an odd number of
// them, of which a majority has to grant a lease. Independent means that none
// replicates another and that they do not fail together. All processes name the
// same masters, in the same order. The clients stay the caller's: Close does not
// close them. No I/O, so it does not fail for an unreachable Redis, nor for clients
// that lead to the same server (which the worker's plugin refuses: it would have
// several votes); its errors wrap ErrInvalidOptions.
//
// The clients should have ContextTimeoutEnabled set; without it a command to a
// Redis that hangs ends by the client's ReadTimeout only, and less of a lease's
// life is left for another try. Waiting for held resources uses up to 128
// connections more per master, made like the client's.
func NewQuorum(clients []redis.UniversalClient, opts Options) (*Manager, error) {
	if err := checkClients(clients); err != nil {
		return nil, fmt.Errorf("locking: new: %w: %w", ErrInvalidOptions, err)
	}
	q := &quorum{now: systemClock, id: newToken(), spotEvery: spotEvery}
	m, err := newManager(q, q.now, opts)
	if err != nil {
		return nil, err
	}
	for i, client := range clients {
		if m.opts.quarantine(len(clients)) > 0 && !tellsRestarts(client) {
			return nil, fmt.Errorf("locking: new: %w: client %d is a %T, of which restarts of its master cannot be told; pass a *redis.Client or a *redis.ClusterClient, or switch Options.Quarantine off by -1",
				ErrInvalidOptions, i+1, client)
		}
		q.nodes = append(q.nodes, newNode(client, q.now, m.telemetry.Log))
	}
	q.quarantine, q.spawn, q.persist = m.opts.quarantine(len(clients)), m.spawn, m.persist
	q.crew = newCrew(m.spawn, m.closing.Done())
	m.longest = q.quarantine
	for _, n := range q.nodes {
		n.by, n.losses = m.opts.Holder, &m.losses
		if client, ok := n.client.(*redis.Client); ok {
			restartsOf(client) // counts connections from the first on
		}
	}
	homes := quorumBells{home: q.home}
	for i, client := range clients {
		homes.bells = append(homes.bells, newBells(client, len(clients) > 1, q.nodes[i].ring, m.spawn))
	}
	m.waiter = homes
	return m, nil
}

// tellsRestarts tells whether the connections of a client can be counted.
func tellsRestarts(client redis.UniversalClient) bool {
	switch client.(type) {
	case *redis.Client, *redis.ClusterClient:
		return true
	}
	return false
}

func checkClients(clients []redis.UniversalClient) error {
	if len(clients)%2 == 0 {
		return fmt.Errorf("%d clients given; a majority needs an odd number of masters: 1, 3 or 5", len(clients))
	}
	for i, client := range clients {
		if client == nil {
			return errors.New("client is nil; pass a connected redis.UniversalClient")
		}
		if slices.Contains(clients[:i], client) {
			return fmt.Errorf("clients %d and %d are the same; each master has one vote", slices.Index(clients, client)+1, i+1)
		}
	}
	return nil
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
// background: a process that ends right after calls Close first, else that stays for
// its TTL.
//
// Errors: ErrNotAcquired (held for the whole wait; try again later), ErrReentrant
// (ctx carries a lease of resource), ErrUnavailable (an outage), ErrDenied, ErrInvalidResource, ErrInvalidOptions,
// ErrClosed, or the error of ctx.
func (m *Manager) Acquire(ctx context.Context, resource string, opts ...Option) (*Lease, error) {
	req, err := m.opts.request(opts)
	if err == nil && m.longest > 0 && req.ttl > m.longest {
		err = fmt.Errorf("%w: WithTTL(%s) is longer than the quarantine of a master that was started (%s); raise Options.Quarantine in all processes", ErrInvalidOptions, req.ttl, m.longest)
	}
	if bad := keys.Check("resource", resource); bad != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrInvalidResource, bad))
	}
	if err != nil {
		return nil, fmt.Errorf("locking: acquire: %w", err)
	}
	if carries(ctx, m.opts.Namespace, resource) {
		return nil, fmt.Errorf("locking: acquire: %w: work under the lease in the context, or acquire another resource", ErrReentrant)
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
		m.masters.close()
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
		switch class := classOf(err); {
		case class != rediserr.Unavailable && class != rediserr.Denied, time.Now().Add(pause).After(giveUp):
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
