package redisstate

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// trips lets callers who come at the same time share round trips. While fewer
// than maxTrips are under way, each caller makes its own, at once and on its own
// goroutine: alone, sharing costs nothing. Who comes on top waits, and goes with
// all others who wait as soon as one of the trips ends. So the busier a process
// is, the more callers a trip carries, and nobody waits for others to come.
//
// A caller who gives up stops waiting at once. What it asked for is not sent any
// more, unless it is on a trip already: that goes on for the others, until the
// client gives up, and then nobody knows whether it happened.
//
// The zero value with send and size set is ready. It is for one server: on
// Cluster a node that is away would hold up those who ask others.
type trips[T any] struct {
	// send makes one trip for all items. Its error is everybody's; what concerns
	// one item alone is left in that. It does not keep the slice.
	send func(ctx context.Context, items []T) error
	size func(T) int // bytes that an item moves, about

	mu      sync.Mutex
	flying  int
	waiting []*passenger[T]
	patrol  *time.Timer // set while someone waits
}

// passenger is an item that waits for a trip or is on one. err is set before
// done is closed.
type passenger[T any] struct {
	ctx   context.Context
	item  T
	since time.Time
	done  chan struct{}
	err   error
}

const (
	// maxTrips is up to how many callers do not share. More trips at a time gain
	// nothing on one server, which answers one after the other.
	maxTrips = 4
	// maxPassengers and maxTripBytes bound what one trip carries, so that it ends
	// well within the client's time-outs.
	maxPassengers = 64
	maxTripBytes  = 1 << 20
	// maxWait is for how long someone waits while all trips are slow: then one
	// more is made, so that a connection that hangs holds up only who is on it.
	maxWait = 10 * time.Millisecond
)

// do takes item along. It returns send's error, or ctx's if that ends first.
func (t *trips[T]) do(ctx context.Context, item T) error {
	t.mu.Lock()
	if t.flying < maxTrips && len(t.waiting) == 0 {
		t.flying++
		t.mu.Unlock()
		defer t.land()
		return t.send(ctx, []T{item})
	}
	p := &passenger[T]{ctx: ctx, item: item, since: time.Now(), done: make(chan struct{})}
	t.waiting = append(t.waiting, p)
	t.watch()
	t.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		t.leave(p)
		return ctx.Err()
	}
}

// leave takes back one who waits.
func (t *trips[T]) leave(p *passenger[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, p); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
}

// land ends a trip of one caller, and lets those who wait go.
func (t *trips[T]) land() {
	if batch := t.next(); batch != nil {
		go t.fly(batch)
	}
}

// fly makes trips for as long as someone waits.
func (t *trips[T]) fly(batch []*passenger[T]) {
	for ; batch != nil; batch = t.next() {
		t.carry(batch)
	}
}

// next ends a trip and tells who goes with the one that takes its place; nil for
// nobody.
func (t *trips[T]) next() []*passenger[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 || t.flying > maxTrips {
		t.flying--
		return nil
	}
	return t.board()
}

// board takes from those who wait as many as one trip carries. The caller holds
// the lock.
func (t *trips[T]) board() []*passenger[T] {
	n, total := 0, 0
	for n < min(len(t.waiting), maxPassengers) {
		total += t.size(t.waiting[n].item)
		if n > 0 && total > maxTripBytes {
			break
		}
		n++
	}
	batch := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return batch
}

// watch sees to it that nobody waits for longer than maxWait. The caller holds
// the lock.
func (t *trips[T]) watch() {
	if t.patrol == nil {
		t.patrol = time.AfterFunc(maxWait, t.relieve)
	}
}

// relieve makes one more trip if someone has waited for too long.
func (t *trips[T]) relieve() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.patrol = nil
	if len(t.waiting) == 0 {
		return
	}
	if time.Since(t.waiting[0].since) >= maxWait {
		t.flying++
		go t.fly(t.board())
	}
	if len(t.waiting) > 0 {
		t.watch()
	}
}

// carry makes one trip. It belongs to none of those on it: it goes on until the
// last of their deadlines, and its span is in the trace of the first, with links
// to those of the others.
func (t *trips[T]) carry(batch []*passenger[T]) {
	ctx := context.WithoutCancel(batch[0].ctx)
	items := make([]T, len(batch))
	var latest time.Time
	bounded := true
	var links []trace.Link
	for i, p := range batch {
		items[i] = p.item
		deadline, has := p.ctx.Deadline()
		bounded = bounded && has
		if deadline.After(latest) {
			latest = deadline
		}
		if span := trace.SpanContextFromContext(p.ctx); i > 0 && span.IsSampled() {
			links = append(links, trace.Link{SpanContext: span})
		}
	}
	if links != nil {
		ctx = context.WithValue(ctx, linksKey{}, links)
	}
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, latest)
		defer cancel()
	}
	err := t.send(ctx, items)
	for _, p := range batch {
		p.err = err
		close(p.done)
	}
}

// linksKey is where a context has the links of the spans made for it.
type linksKey struct{}

// spanLinks are the other traces that an operation is part of.
func spanLinks(ctx context.Context) []trace.Link {
	links, _ := ctx.Value(linksKey{}).([]trace.Link)
	return links
}
