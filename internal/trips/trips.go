// Package trips lets callers who come at the same time share round trips to one
// server. It promises that a caller alone pays nothing for that, that nobody waits
// for others to come, and that one who gives up stops waiting at once.
//
// Not for: Redis Cluster, where a node that is away would hold up those who ask
// others.
package trips

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Trips are the round trips of one kind to one server. While fewer than AtOnce
// are under way, each caller makes its own, at once and on its own
// goroutine: alone, sharing costs nothing. Who comes on top waits, and goes with
// all others who wait as soon as one of the trips ends. So the busier a process
// is, the more callers a trip carries, and nobody waits for others to come.
//
// A caller who gives up stops waiting at once. What it asked for is not sent any
// more, unless it is on a trip already: that goes on for the others, and then
// nobody knows whether it happened. When the last one gives up, the trip is
// cancelled: what the client was about to send again is not sent any more.
//
// The zero value with its exported fields set is ready. They do not change once it
// is used. Safe for concurrent use.
type Trips[T any] struct {
	// Send makes one trip for all items. Its error is everybody's; what concerns
	// one item alone is left in that. It does not keep the slice.
	Send func(ctx context.Context, items []T) error
	// Size is about how many bytes an item moves.
	Size func(T) int
	// AtOnce is up to how many callers do not share. More trips at a time than a
	// few gain nothing on one server, which answers one after the other.
	AtOnce int
	// Stay has who gives up on a trip wait for its end all the same, so that nothing of
	// its own is still on its way when Do returns.
	Stay bool
	// Op and Family are what the callers do, for errors and the log.
	Op, Family string
	Log        *slog.Logger

	mu      sync.Mutex
	flying  int
	waiting []*passenger[T]
	patrol  *time.Timer        // set while someone waits
	shared  map[*trip]struct{} // those under way
	away    sync.WaitGroup     // their goroutines
	closed  bool
}

// passenger is an item that waits for a trip or is on one. err is set before
// done is closed.
type passenger[T any] struct {
	ctx   context.Context
	item  T
	since time.Time
	done  chan struct{}
	err   error
	on    *trip // nil: still waits
}

// trip is one that is shared.
type trip struct {
	aboard int // who has not given up
	cancel context.CancelCauseFunc
}

const (
	// maxPassengers and maxTripBytes bound what one trip carries, so that it ends
	// well within the client's time-outs.
	maxPassengers = 64
	maxTripBytes  = 1 << 20
	// MaxWait is for how long someone waits while all trips are slow: then one
	// more is made, so that a connection that hangs holds up only who is on it.
	MaxWait = 10 * time.Millisecond
)

// ErrDeserted is the cause with which a trip that everybody gave up is cancelled.
var ErrDeserted = errors.New("all who shared the round trip gave up")

// Do takes item along. It returns Send's error, ctx's if that ends first, or
// ErrClosed.
func (t *Trips[T]) Do(ctx context.Context, item T) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return rediserr.ErrClosed
	}
	if t.flying < t.AtOnce && len(t.waiting) == 0 {
		t.flying++
		t.mu.Unlock()
		defer t.land(nil)
		return t.Send(ctx, []T{item})
	}
	p := &passenger[T]{ctx: ctx, item: item, since: time.Now(), done: make(chan struct{})}
	t.waiting = append(t.waiting, p)
	t.watch()
	t.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		if !t.leave(p) && t.Stay {
			<-p.done
			return p.err
		}
		return ctx.Err()
	}
}

// leave takes back one who waits, or lets one get off, unless they stay. A trip with
// nobody aboard is cancelled. It tells whether the item is not on a trip.
func (t *Trips[T]) leave(p *passenger[T]) (waited bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.on != nil {
		if p.on.aboard--; p.on.aboard == 0 && !t.Stay {
			p.on.cancel(ErrDeserted)
		}
		return false
	}
	if i := slices.Index(t.waiting, p); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	return true
}

// land ends a trip, nil for one of one caller, and lets those who wait go.
func (t *Trips[T]) land(ended *trip) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ended != nil {
		delete(t.shared, ended)
	}
	t.flying--
	if len(t.waiting) > 0 && t.flying < t.AtOnce {
		t.depart()
	}
}

// depart makes a trip for those who wait, as many as fit, on a goroutine of its
// own. The caller holds the lock.
func (t *Trips[T]) depart() {
	batch := t.board()
	ctx, cancel := context.WithCancelCause(commonContext(batch))
	next := &trip{aboard: len(batch), cancel: cancel}
	for _, p := range batch {
		p.on = next
	}
	if t.shared == nil {
		t.shared = make(map[*trip]struct{})
	}
	t.shared[next] = struct{}{}
	t.flying++
	t.away.Go(func() { t.carry(ctx, next, batch) })
}

// board takes from those who wait as many as one trip carries. The caller holds
// the lock.
func (t *Trips[T]) board() []*passenger[T] {
	n, total := 0, 0
	for n < min(len(t.waiting), maxPassengers) {
		total += t.Size(t.waiting[n].item)
		if n > 0 && total > maxTripBytes {
			break
		}
		n++
	}
	batch := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return batch
}

// watch sees to it that nobody waits for longer than MaxWait. The caller holds
// the lock, and someone waits.
func (t *Trips[T]) watch() {
	if t.patrol == nil {
		t.patrol = time.AfterFunc(MaxWait-time.Since(t.waiting[0].since), t.relieve)
	}
}

// relieve makes as many more trips as it takes for all who have waited for too
// long.
func (t *Trips[T]) relieve() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.patrol = nil
	for len(t.waiting) > 0 && time.Since(t.waiting[0].since) >= MaxWait {
		t.depart()
	}
	if len(t.waiting) > 0 {
		t.watch()
	}
}

// commonContext is what a shared trip starts from. It belongs to none of those
// on it. Its span is in the trace of the first who is sampled, with links to
// those of the others; so the trip is seen if anybody's trace is.
func commonContext[T any](batch []*passenger[T]) context.Context {
	lead := -1
	var links []trace.Link
	for i, p := range batch {
		span := trace.SpanContextFromContext(p.ctx)
		switch {
		case !span.IsSampled():
		case lead < 0:
			lead = i
		default:
			links = append(links, trace.Link{SpanContext: span})
		}
	}
	ctx := context.WithoutCancel(batch[max(lead, 0)].ctx)
	if links != nil {
		ctx = context.WithValue(ctx, linksKey{}, links)
	}
	return ctx
}

// carry makes one shared trip, which goes on until the last of the deadlines.
// Whatever a hook of the host's client does in it, on this goroutine it must
// neither end the process nor leave anybody waiting.
func (t *Trips[T]) carry(ctx context.Context, this *trip, batch []*passenger[T]) {
	err := t.hookError("ended its goroutine") // stays only if one does
	defer func() {
		if p := recover(); p != nil {
			t.Log.ErrorContext(ctx, "A hook of the Redis client panicked", "op", t.Op, "family", t.Family, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = t.hookError(fmt.Sprintf("panicked (%T)", p))
		}
		if errors.Is(context.Cause(ctx), rediserr.ErrClosed) {
			err = rediserr.ErrClosed
		}
		this.cancel(nil)
		for _, p := range batch {
			p.err = err
			close(p.done)
		}
		t.land(this)
	}()
	items := make([]T, len(batch))
	var latest time.Time
	bounded := true
	for i, p := range batch {
		items[i] = p.item
		deadline, has := p.ctx.Deadline()
		bounded = bounded && has
		if deadline.After(latest) {
			latest = deadline
		}
	}
	if !bounded {
		err = t.Send(ctx, items)
		return
	}
	until, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	err = t.Send(until, items)
}

// hookError is what all on a trip get when a hook of the host's client did not
// return. It is like an outage: nobody knows what happened, and trying again is
// safe. What it panicked with stays out: it may be a secret.
func (t *Trips[T]) hookError(did string) error {
	return &rediserr.Error{Op: t.Op, Family: t.Family, Class: rediserr.Unavailable, Err: errors.New("a hook of the Redis client " + did)}
}

// Close cancels shared trips and refuses who waits or comes later. A caller's own
// trip is left to its caller.
func (t *Trips[T]) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, p := range t.waiting {
		p.err = rediserr.ErrClosed
		close(p.done)
	}
	t.waiting = nil
	for one := range t.shared {
		one.cancel(rediserr.ErrClosed)
	}
}

// Wait returns when all shared trips have ended, after Close.
func (t *Trips[T]) Wait() { t.away.Wait() }

// linksKey is where a context has the links of the spans made for it.
type linksKey struct{}

// SpanLinks are the other traces that an operation is part of.
func SpanLinks(ctx context.Context) []trace.Link {
	links, _ := ctx.Value(linksKey{}).([]trace.Link)
	return links
}
