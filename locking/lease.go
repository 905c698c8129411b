package locking

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Lease is the right to a resource for a time that is prolonged in the
// background until Release. It is safe for concurrent use. See the package
// comment for its states.
type Lease struct {
	manager    *Manager
	resource   string
	keys       lockKeys
	token      string
	claim      claim
	grant      grant
	ttl        time.Duration
	renewEvery time.Duration
	acquired   instant
	granted    time.Time     // when Redis had granted it
	lifetime   time.Duration // from acquired to the holder's deadline; 0: none

	ctx    context.Context //nolint:containedctx // done when the lease is over: what Context returns
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	state    state
	from     instant       // sending of the last renewal that Redis confirmed
	validFor time.Duration // after from

	kept   bool        // keep runs or is not needed any more
	alarm  *time.Timer // starts keep
	unhear func() bool // stops hearing of Manager.Close

	extending sync.Mutex // held while a renewal is sent

	given    chan struct{} // closed when Release is through
	givenErr error         // what it returned
}

type state int

const (
	held state = iota
	released
	lost
)

// errReleased is the cause of a lease's context after Release.
var errReleased = fmt.Errorf("locking: the lease was released: %w", context.Canceled)

func newLease(a *acquisition, from instant, ttl time.Duration) *Lease {
	l := &Lease{
		manager:    a.manager,
		resource:   a.resource,
		keys:       a.keys,
		token:      a.token,
		claim:      a.claim,
		grant:      a.claim.grant(),
		ttl:        a.request.ttl,
		renewEvery: a.request.renewEvery,
		acquired:   from,
		granted:    time.Now(),
		from:       from,
		validFor:   ttl - drift(ttl),
		given:      make(chan struct{}),
	}
	if a.contended {
		a.claim.contend(false)
	}
	if a.lifetime > 0 {
		l.lifetime = max(a.lifetime-from.since(a.started), 1)
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// Resource is the name that was acquired.
func (l *Lease) Resource() string { return l.resource }

// Fence is the number of this grant. Of two leases of one resource, the one
// granted later has the higher number, whatever happened between: hand it to
// what you write to, and have a lower one refused there. The numbers have gaps
// and fit into 53 bits.
func (l *Lease) Fence() uint64 { return l.grant.fence }

// ID tells this grant from every other one, also from one that has the same fence
// because Redis lost its counter. It is no secret.
func (l *Lease) ID() string {
	sum := sha256.Sum256([]byte(l.token))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Follows tells whether this lease came directly after earlier: the same
// resource, and nobody was granted it in between. A holder that lost its lease
// and got it back may then keep what it did meanwhile. False when that is not
// known: when a master that says so was started again or took over since earlier,
// and may have forgotten one; when its user may not call INFO; and with clients other
// than *redis.Client and *redis.ClusterClient. It is for leases that were lost: of one
// that was released, what has happened to the masters since is not looked at as closely.
// No I/O.
func (l *Lease) Follows(earlier *Lease) bool {
	return earlier != nil && earlier.resource == l.resource && l.grant.previous != "" && l.grant.previous == earlier.token &&
		!l.grant.steady.After(earlier.granted)
}

// Context is done when the lease is over: with cause ErrLost (see
// context.Cause) when it ended before its release, else with a cause that is
// context.Canceled. It does not depend on the context given to Acquire and
// carries nothing of it; see Bind.
func (l *Lease) Context() context.Context { return l.ctx }

// Deadline is when the lease ends unless it is renewed before, or a moment that has passed
// if it is over. It moves with each renewal, and after a suspension of the process.
func (l *Lease) Deadline() time.Time {
	now := l.manager.now()
	over := l.Err() != nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if over {
		return l.from.mono
	}
	deadline := l.from.mono.Add(l.validFor)
	if l.lifetime > 0 {
		if last := l.acquired.mono.Add(l.lifetime); last.Before(deadline) {
			deadline = last
		}
	}
	if sooner := now.mono.Add(l.leftLocked(now)); deadline.Sub(sooner) > time.Millisecond { // the clocks differ
		return sooner
	}
	return deadline
}

// Err is nil while the lease is held; afterwards it is the cause of Context's
// end. It compares the clocks itself, so it tells the truth even if the process
// was stopped and nothing in it had time to notice.
func (l *Lease) Err() error {
	l.check(l.manager.now())
	return context.Cause(l.ctx)
}

// Renew renews the lease now, beside the renewals in the background, and so asks
// Redis whether it is still ours; it takes 3 s at most. ErrNotHeld means that it is
// over, ErrUnavailable that Redis did not confirm by then or by the end of ctx,
// ErrDenied that it refused; after these it may still be held: see Err. ErrClosed
// comes from a closed Manager.
func (l *Lease) Renew(ctx context.Context) error {
	if !l.manager.begin() {
		return fmt.Errorf("locking: renew: the manager is %w", ErrClosed)
	}
	defer l.manager.tasks.Done()
	if err := l.Err(); err != nil {
		return fmt.Errorf("locking: renew: %w: %s", ErrNotHeld, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	answer := l.extend(ctx)
	switch {
	case answer.err == nil:
		l.prolong(answer)
		if err := l.Err(); err != nil { // the answer came too late
			return fmt.Errorf("locking: renew: %w: %s", ErrNotHeld, err.Error())
		}
		return nil
	case errors.Is(answer.err, errGone):
		l.lose(telemetry.LostGone, answer.err)
		return fmt.Errorf("locking: renew: %w: %w", ErrNotHeld, answer.err)
	}
	return answer.err
}

// Bind returns a context that is ctx but also ends, with the same cause, when
// the lease is over. The returned function frees what it takes; call it.
func (l *Lease) Bind(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return bound, func() {
		stop()
		cancel(nil)
	}
}

// left is how long the lease is still valid without another renewal.
func (l *Lease) left(now instant) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leftLocked(now)
}

func (l *Lease) leftLocked(now instant) time.Duration {
	left := l.validFor - now.since(l.from)
	if l.lifetime > 0 {
		left = min(left, l.lifetime-now.since(l.acquired))
	}
	return left
}

// check ends the lease if its time is over.
func (l *Lease) check(now instant) {
	l.mu.Lock()
	over := l.state == held && l.leftLocked(now) <= 0
	reason := l.reasonLocked(now)
	l.mu.Unlock()
	if over {
		l.lose(reason, nil)
	}
}

func (l *Lease) reasonLocked(now instant) string {
	switch {
	case l.lifetime > 0 && l.lifetime <= now.since(l.acquired):
		return telemetry.LostDeadline
	case now.mono.Sub(l.from.mono) < l.validFor:
		return telemetry.LostSuspended
	}
	return telemetry.LostExpired
}

// lose ends the lease before its release. why may be nil. It reports false if
// the lease was over already.
func (l *Lease) lose(reason string, why error) bool {
	cause := fmt.Errorf("locking: %w: %s", ErrLost, lossText[reason])
	if why != nil {
		cause = fmt.Errorf("%w: %w", cause, why)
	}
	if l.end(lost, cause) != held {
		return false
	}
	l.manager.losses.add(l.token)
	l.account(reason, cause)
	if l.claim.pending() && l.manager.begin() {
		// A master may keep it for a while yet, for nobody.
		go func() {
			defer l.manager.tasks.Done()
			l.giveBack()
		}()
	}
	return true
}

// lossText says what each reason means.
var lossText = map[string]string{
	telemetry.LostExpired:   "no renewal got through in time",
	telemetry.LostGone:      "redis no longer knows it (flushed, restarted, deleted, or expired early)",
	telemetry.LostDeadline:  "the time given by WithDeadline came",
	telemetry.LostSuspended: "the machine slept, or its clock was set, past the lease's end",
	telemetry.LostClosed:    "the manager was closed",
}

// account tells telemetry of a lost lease.
func (l *Lease) account(reason string, cause error) {
	m := l.manager.telemetry
	held := time.Since(l.acquired.mono)
	m.Metrics.LockLost.WithLabelValues(reason).Inc()
	m.Metrics.LockHold.Observe(held.Seconds())
	level := slog.LevelWarn
	if reason == telemetry.LostDeadline || reason == telemetry.LostClosed {
		level = slog.LevelInfo
	}
	m.Log.Log(context.Background(), level, "lease lost", "reason", reason, "held", held, "error", cause)
}

// giveBack releases, as long as it makes sense, a lease that is over.
func (l *Lease) giveBack() {
	l.manager.persist(l.ttl, func(ctx context.Context) error {
		return l.claim.release(ctx, nil)
	})
}

// releaseTimeout bounds Release.
const releaseTimeout = 5 * time.Second

// Release gives the resource back and wakes the next waiter. Context ends
// before anything is sent. ctx carries values only: Release goes through even
// if ctx is done, and takes 5 s at most (with a client of the host's that has no
// ContextTimeoutEnabled, its own time-outs longer).
//
// Releasing again returns what the first Release returned. ErrNotHeld means
// that the lease had been lost, ErrUnavailable that Redis did not confirm, and
// ErrDenied that it refused; the resource is then given back in the background or
// by its TTL. Nil means that it was held to the end, as far as Redis told: where
// the answer to a release was lost, one that finds nothing any more is taken for
// the second of the two.
func (l *Lease) Release(ctx context.Context) error {
	l.check(l.manager.now())
	switch l.end(released, errReleased) {
	case held:
		defer l.manager.tasks.Done() // end counted it
	case lost:
		// Its text only: that the lease was lost and that it cannot be released
		// are told apart.
		return fmt.Errorf("locking: release: %w: %s", ErrNotHeld, context.Cause(l.ctx).Error())
	case released:
		<-l.given
		return l.givenErr
	}
	l.givenErr = l.sendRelease(context.WithoutCancel(ctx))
	close(l.given)
	return l.givenErr
}

func (l *Lease) sendRelease(ctx context.Context) error {
	m := l.manager
	ctx, span := m.telemetry.Tracer.Start(ctx, telemetry.SpanLockRelease)
	defer span.End()
	held := time.Since(l.acquired.mono)
	m.telemetry.Metrics.LockHold.Observe(held.Seconds())

	ctx, cancel := context.WithTimeout(ctx, min(releaseTimeout, l.ttl))
	defer cancel()
	if m.turns.owes(l.resource) {
		l.claim.contend(true)
	}
	for pause := obtainPause; ; pause *= 2 {
		err := l.claim.release(ctx, func(back time.Duration) { m.turns.yield(l.resource, back) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errGone):
			m.telemetry.Metrics.LockLost.WithLabelValues(telemetry.LostGone).Inc()
			return fmt.Errorf("locking: release: %w: %w", ErrNotHeld, err)
		}
		if classOf(err) != rediserr.Unavailable || sleep(ctx, jitter(pause)) != nil {
			l.later()
			return err
		}
	}
}

// later gives the lease back in the background.
func (l *Lease) later() {
	if l.manager.begin() {
		go func() {
			defer l.manager.tasks.Done()
			l.giveBack()
		}()
	}
}
