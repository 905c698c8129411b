package locking

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// opTimeout bounds one call to the masters.
	opTimeout = 3 * time.Second
	// obtainTries is how often an obtain is asked again, with the same token,
	// when it is unknown what came of it.
	obtainTries = 3
	// onceTries is how often who does not wait asks while nobody has a majority.
	onceTries = 4
	// obtainPause is the time before the second try; it doubles.
	obtainPause = 20 * time.Millisecond
	// tellEvery is the time between two calls of a wait callback.
	tellEvery = time.Second
)

// acquisition is one Acquire. It is used by one goroutine.
type acquisition struct {
	manager  *Manager
	request  request
	resource string
	keys     lockKeys
	token    string
	claim    claim

	started   instant
	bound     time.Time     // waiting ends here
	lifetime  time.Duration // from started to the request's deadline; 0: none
	contended bool
	nextTell  time.Time // of the wait callback

	uncertain bool           // an obtain ended without telling what it did
	abandoned <-chan outcome // an obtain that still runs after we gave up
	forgotten time.Duration  // what is left of a quarantine that stood in the way of the last attempt
	rung      bool           // a ring led to the attempt
	again     time.Duration  // in what time the next look comes at the latest
	split     bool           // the last attempt found that nobody seems to have a majority
	hurry     int            // how many quick looks there were since there was a reason; 0: none
}

// outcome is what an obtain gave.
type outcome struct {
	remaining time.Duration // of the other's lease, if it is held; 0: unknown
	err       error
}

func newAcquisition(m *Manager, resource string, req request) *acquisition {
	a := &acquisition{
		manager:  m,
		request:  req,
		resource: resource,
		keys:     keysOf(m.space, resource),
		token:    newToken(),
		started:  m.now(),
	}
	a.claim = m.masters.claim(a.keys, a.token)
	wait := req.wait
	if !req.deadline.IsZero() {
		a.lifetime = min(max(req.deadline.Sub(a.started.mono), 1), forEver)
		wait = min(wait, a.lifetime)
	}
	a.bound = a.started.mono.Add(wait)
	return a
}

// run waits for the turn within the process, then for the lock.
func (a *acquisition) run(ctx context.Context) (lease *Lease, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(a.manager.closing, func() { cancel(ErrClosed) })
	defer stop()
	defer func() {
		if err != nil {
			a.clean()
		}
	}()

	if a.lifetime == 1 {
		return nil, fmt.Errorf("locking: acquire: %w: the time given by WithDeadline has passed", ErrNotAcquired)
	}
	once := a.request.wait == 0
	place, ok := a.manager.turns.join(a.resource, once)
	if !ok {
		a.noteContention()
		return nil, a.notAcquired()
	}
	defer place.leave()
	select {
	case <-place.first:
	default:
		if err := a.await(ctx, place.first, 0); err != nil {
			return nil, err
		}
	}
	return a.contend(ctx, once)
}

// contend asks for the lock until it is granted or the wait is over.
func (a *acquisition) contend(ctx context.Context, once bool) (*Lease, error) {
	var watch vigil
	heard := false // a ring that was not used yet
	defer func() {
		if watch == nil {
			return
		}
		if heard {
			watch.pass()
		}
		watch.end()
	}()
	look := false
	var yield bool
	var back time.Duration
	if !once {
		yield, back = a.manager.turns.mustYield(a.resource)
	}
	switch {
	case !yield:
	case back > 0:
		if err := a.stepBack(ctx, back); err != nil {
			return nil, err
		}
	default: // listen before asking
		watch = a.manager.waiter.listen(a.keys, time.Until(a.bound), true)
		err := a.await(ctx, watch.rung(), min(watch.patience(0), max(time.Until(a.bound)/2, 1)))
		if look = errors.Is(err, errLook); err != nil && !look {
			return nil, err
		}
		heard = !look
	}
	for tries := 1; ; tries++ {
		a.rung, a.again = watch != nil && !look, lookPolling
		if watch != nil && watch.listens() {
			a.again = lookListening
		}
		lease, remaining, err := a.try(ctx, look)
		heard = heard && err != nil && !errors.Is(err, errHeld) // whoever has it rings
		if !errors.Is(err, errHeld) {
			return lease, err
		}
		if once {
			a.noteContention()
			if a.split && tries < onceTries && sleep(ctx, jitter(pollFirst)) == nil {
				continue // nobody has it
			}
			return nil, a.notAcquired()
		}
		if watch == nil {
			watch = a.manager.waiter.listen(a.keys, time.Until(a.bound), false)
		} else {
			watch.again()
		}
		err = a.await(ctx, watch.rung(), a.patience(watch, remaining))
		look = errors.Is(err, errLook)
		if err != nil && !look {
			return nil, err
		}
		heard = !look
	}
}

// patience is how long to wait for a ring. It is short for a while when a few
// contenders each got a minority of the masters, since nobody may have the lock, and
// nobody ring; and when a ring was followed by a refusal, since the release may have
// reached only some masters yet.
func (a *acquisition) patience(watch vigil, remaining time.Duration) time.Duration {
	patience := watch.patience(remaining)
	if a.hurry == 0 {
		return patience
	}
	quick := pollFirst << min(a.hurry-1, 16)
	if quick <= pollLast {
		a.hurry++
	} else if quick = pollLast; !a.split {
		a.hurry = 0
		return patience
	}
	return min(patience, jitter(quick))
}

// refused notes why the lock was not to be had.
func (a *acquisition) refused(held *heldError) {
	a.split, a.forgotten = held.split, held.left
	if held.split || (held.several && a.rung) {
		a.hurry = max(a.hurry, 1)
	}
}

// errLook says that nothing was heard and it is time to look.
var errLook = errors.New("nothing was heard")

// await blocks until there is a ring. It returns errLook after patience (0:
// never), ErrNotAcquired at the bound, and an error when ctx ends.
func (a *acquisition) await(ctx context.Context, rung <-chan struct{}, patience time.Duration) error {
	a.noteContention()
	left := time.Until(a.bound)
	if left <= 0 {
		return a.notAcquired()
	}
	bound := time.NewTimer(left)
	defer bound.Stop()
	var look <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		look = timer.C
	}
	for {
		due, stop := a.tellTimer()
		select {
		case <-rung:
			stop()
			return nil
		case <-look:
			stop()
			return errLook
		case <-bound.C:
			stop()
			return a.notAcquired()
		case <-ctx.Done():
			stop()
			return gaveUp(ctx)
		case <-due:
			a.tell()
		}
	}
}

// tellTimer fires when the wait callback is due.
func (a *acquisition) tellTimer() (<-chan time.Time, func() bool) {
	if a.request.onWait == nil {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(time.Until(a.nextTell))
	return timer.C, timer.Stop
}

func (a *acquisition) tell() {
	a.nextTell = time.Now().Add(tellEvery)
	a.request.onWait(Waiting{
		Elapsed:   time.Since(a.started.mono),
		Remaining: max(time.Until(a.bound), 0),
	})
}

// noteContention counts an acquisition once, however long it waits.
func (a *acquisition) noteContention() {
	if a.contended {
		return
	}
	a.contended = true
	a.manager.telemetry.Metrics.LockContention.Inc()
	if a.request.onWait != nil && a.request.wait > 0 {
		a.tell()
	}
}

func (a *acquisition) notAcquired() error {
	if a.forgotten > 0 {
		return fmt.Errorf("locking: acquire: %w after %s: masters that were started a moment ago give no vote for another %s, since they may have forgotten a lease (Options.Quarantine); try again then",
			ErrNotAcquired, time.Since(a.started.mono).Round(time.Millisecond), a.forgotten.Round(100*time.Millisecond))
	}
	return fmt.Errorf("locking: acquire: %w: still held by another after %s; try again later or wait longer (WithWait)",
		ErrNotAcquired, time.Since(a.started.mono).Round(time.Millisecond))
}

// try asks for the lock, again with the same token where it is unknown what
// came of it: if the first one was granted and the reply lost, the second meets
// its own token and is granted too. look asks only if the lock is free.
func (a *acquisition) try(ctx context.Context, look bool) (*Lease, time.Duration, error) {
	for n, pause := 1, obtainPause; ; n, pause = n+1, 2*pause {
		lease, remaining, err := a.attempt(ctx, look)
		if n == obtainTries || !errors.Is(err, ErrUnavailable) || a.overdue() {
			return lease, remaining, err
		}
		if sleep(ctx, jitter(pause)) != nil {
			return nil, 0, gaveUp(ctx)
		}
	}
}

// overdue tells that the wait is over. One that was to be none says nothing of how long
// Redis may take.
func (a *acquisition) overdue() bool {
	return a.request.wait > 0 && !time.Now().Before(a.bound)
}

// attempt asks once.
func (a *acquisition) attempt(ctx context.Context, look bool) (*Lease, time.Duration, error) {
	if ctx.Err() != nil {
		return nil, 0, gaveUp(ctx)
	}
	start := a.manager.now()
	ttl := a.ttl(start)
	o, answered := a.call(ctx, func(ctx context.Context) outcome { return a.obtain(ctx, ttl, look) }, min(opTimeout, ttl/2))
	if !answered {
		return nil, 0, gaveUp(ctx)
	}
	if o.err != nil {
		a.uncertain = a.uncertain || maybeGranted(o.err)
		return nil, o.remaining, o.err
	}
	lease := newLease(a, start, ttl)
	switch {
	case lease.left(a.manager.now()) <= 0:
		a.uncertain = true
		return nil, 0, wrap("locking: acquire", errLate)
	case ctx.Err() != nil:
		a.uncertain = true
		return nil, 0, gaveUp(ctx)
	}
	lease.watch()
	return lease, 0, nil
}

// call runs obtain to its end even if ctx ends before, because an obtain that
// was cut off might reach Redis after the undoing of it. After an outage it
// runs in the background, so that the end of ctx is noticed at once; else that
// would cost more than the call itself.
func (a *acquisition) call(ctx context.Context, obtain func(context.Context) outcome, atMost time.Duration) (o outcome, answered bool) {
	m := a.manager
	run := func() outcome {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atMost)
		defer cancel()
		o := obtain(ctx)
		m.troubled.Store(errors.Is(o.err, ErrUnavailable))
		return o
	}
	if !m.troubled.Load() {
		return run(), true
	}
	result := make(chan outcome, 1)
	m.spawn(func() { result <- run() })
	select {
	case o := <-result:
		return o, true
	case <-ctx.Done():
		a.abandoned = result
		return outcome{}, false
	}
}

// errLate is an outage: Redis took as long as the lease is.
var errLate = fmt.Errorf("the grant came when it was almost over: %w", context.DeadlineExceeded)

func (a *acquisition) obtain(ctx context.Context, ttl time.Duration, look bool) outcome {
	// After a lost reply, on any master, the lock that is there may be our own; only
	// asking for it tells.
	looked := look && !a.uncertain && !a.claim.pending()
	if looked {
		remaining, err := a.manager.masters.remaining(ctx, a.keys, a.again)
		if err == nil && remaining > 0 {
			err = errHeld
		}
		if err != nil {
			return outcome{remaining: remaining, err: err}
		}
	}
	err := a.claim.obtain(ctx, ttl)
	held, _ := errors.AsType[*heldError](err)
	if held == nil {
		return outcome{err: err}
	}
	a.refused(held)
	if held.several && ((look && !looked) || a.rung) { // who has it did not hear of us in time
		_, _ = a.manager.masters.remaining(ctx, a.keys, a.again)
	}
	return outcome{remaining: held.left, err: err}
}

// ttl is what to ask Redis for: less than usual if the lease's deadline comes
// before, so that a holder that hangs does not keep the lock beyond it.
func (a *acquisition) ttl(now instant) time.Duration {
	return shorten(a.request.ttl, a.lifetime, now.since(a.started))
}

// shorten cuts ttl to what is left of lifetime (0: unbounded) after age.
func shorten(ttl, lifetime, age time.Duration) time.Duration {
	if lifetime == 0 {
		return ttl
	}
	left := lifetime - age + drift(ttl)
	return max(min(ttl, left.Truncate(time.Millisecond)), MinTTL)
}

// clean takes back, in the background, what may have been granted.
func (a *acquisition) clean() {
	m := a.manager
	if a.abandoned == nil && !a.claim.pending() {
		return
	}
	m.spawn(func() {
		if a.abandoned != nil {
			<-a.abandoned
		}
		m.persist(a.request.ttl, func(ctx context.Context) error { return a.claim.release(ctx, nil) })
	})
}

// maybeGranted tells whether Redis may have granted what ended in err.
func maybeGranted(err error) bool {
	var op *net.OpError
	if _, was := errors.AsType[*grantedError](err); was {
		return true
	}
	switch {
	case errors.Is(err, errHeld),
		errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed),
		errors.As(err, &op) && op.Op == "dial":
		return false
	}
	return classOf(err) != rediserr.Denied
}

// gaveUp is the error of an acquisition whose context ended.
func gaveUp(ctx context.Context) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, ErrClosed):
		return fmt.Errorf("locking: acquire: the manager was %w meanwhile", ErrClosed)
	case errors.Is(cause, ctx.Err()):
		return fmt.Errorf("locking: acquire: %w", cause)
	}
	return fmt.Errorf("locking: acquire: %w: %w", ctx.Err(), cause)
}
