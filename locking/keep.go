package locking

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

const (
	// watchEvery is how often a holder compares the clocks between renewals: a
	// timer does not fire when a suspended machine should have woken it.
	watchEvery = time.Second
	// renewPauseFirst and renewPauseLast bound the pause after a failed renewal.
	renewPauseFirst = 50 * time.Millisecond
	renewPauseLast  = 2 * time.Second
)

// renewal is the answer to one renewal.
type renewal struct {
	from instant // when it was sent
	ttl  time.Duration
	err  error
}

// watch has keep start when there is something to do for it. A lease that is
// released before costs a timer and no goroutine. The caller is a task of the
// Manager; so is the lease from here to its end.
func (l *Lease) watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manager.tasks.Add(1)
	start := func() {
		if l.settle() {
			defer l.manager.tasks.Done()
			l.keep()
		}
	}
	first := min(l.renewEvery, watchEvery, l.leftLocked(l.manager.now()))
	l.alarm = time.AfterFunc(first, start)
	l.unhear = context.AfterFunc(l.manager.closing, start)
}

// settle is true once: for keep, or for the end of a lease that came before it.
func (l *Lease) settle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept {
		return false
	}
	l.kept = true
	l.alarm.Stop()
	l.unhear()
	return true
}

// end takes a held lease into one of its final states, and returns the state
// that it was in.
func (l *Lease) end(final state, cause error) (before state) {
	l.mu.Lock()
	if before = l.state; before == held {
		l.state = final
		if final == released {
			l.manager.tasks.Add(1) // while the lease itself is one: Close waits for the release too
		}
		l.cancel(cause) // with the state: whoever sees one sees the other
	}
	l.mu.Unlock()
	if before == held && l.settle() {
		l.manager.tasks.Done()
	}
	return before
}

// keep renews the lease until it is over, and ends it when its time is. The
// calls run beside it, so that a Redis that does not answer cannot keep it from
// noticing the end.
func (l *Lease) keep() {
	var (
		answers  = make(chan renewal, 1)
		inFlight = false
		failures = 0
		marked   = l.manager.now()
		next     = l.renewEvery - marked.since(l.from) // from marked to the next renewal
		why      error                                 // of the last failed renewal
		timer    = time.NewTimer(0)
	)
	defer timer.Stop()
	for {
		if l.ctx.Err() != nil {
			return
		}
		now := l.manager.now()
		if l.left(now) <= 0 {
			l.overdue(now, why)
			return
		}
		due := next - now.since(marked)
		if !inFlight && due <= 0 && l.worthRenewing(now) {
			inFlight = true
			l.renew(now, answers)
		}
		timer.Reset(l.untilNextLook(now, due, inFlight))
		select {
		case <-l.ctx.Done():
		case <-l.manager.closing.Done():
			if l.lose(telemetry.LostClosed, ErrClosed) {
				l.giveBack()
			}
			return
		case answer := <-answers:
			inFlight, marked = false, l.manager.now()
			switch {
			case answer.err == nil:
				l.prolong(answer)
				failures, why = 0, nil
				next = l.renewEvery - marked.since(answer.from)
			case errors.Is(answer.err, errGone):
				l.lose(telemetry.LostGone, answer.err)
				return
			default:
				why = answer.err
				next = jitter(min(renewPauseFirst<<min(failures, 16), renewPauseLast))
				failures++
			}
		case <-timer.C:
		}
	}
}

// untilNextLook is how long keep may sleep.
func (l *Lease) untilNextLook(now instant, due time.Duration, inFlight bool) time.Duration {
	pause := min(l.left(now), watchEvery)
	if !inFlight && due > 0 {
		pause = min(pause, due)
	}
	return max(pause, 0)
}

// worthRenewing is false when the lease already reaches its holder's deadline.
func (l *Lease) worthRenewing(now instant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lifetime == 0 || l.validFor-now.since(l.from) < l.lifetime-now.since(l.acquired)
}

// renew sends one renewal. Its context has nothing to do with the one that the
// lease was acquired under.
func (l *Lease) renew(now instant, answers chan<- renewal) {
	atMost := min(opTimeout, max(l.left(now)/3, 100*time.Millisecond))
	l.manager.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), atMost)
		defer cancel()
		answers <- l.extend(ctx)
	})
}

// extend asks the masters for another TTL, one call after the other.
func (l *Lease) extend(ctx context.Context) renewal {
	l.extending.Lock()
	defer l.extending.Unlock()
	now := l.manager.now()
	ttl := shorten(l.ttl, l.lifetime, now.since(l.acquired))
	return renewal{from: now, ttl: ttl, err: l.claim.extend(ctx, ttl)}
}

// prolong takes note of a renewal that Redis confirmed.
func (l *Lease) prolong(r renewal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.from.mono.After(l.from.mono) {
		l.from, l.validFor = r.from, r.ttl-drift(r.ttl)
	}
}

// overdue ends a lease whose time is over.
func (l *Lease) overdue(now instant, why error) {
	l.mu.Lock()
	reason := l.reasonLocked(now)
	l.mu.Unlock()
	l.lose(reason, why)
}
