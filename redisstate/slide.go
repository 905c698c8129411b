package redisstate

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// slides extend the times to live of what is read without a write per read. A
// read only looks whether an entry is due, by a clock that one goroutine moves;
// that goroutine also sends, in one pipeline, what became due since its last
// round. Everything here may be forgotten: the next read asks again.
//
// A nil *slides extends nothing.
type slides struct {
	clock atomic.Int64 // nanoseconds since the start, at most about slideTick behind
	seen  time.Time    // when clock was moved last; for one goroutine only
	queue chan *slide
	send  func(ctx context.Context, batch []*slide) error

	sent, dropped, failed prometheus.Counter

	mu      sync.Mutex
	young   map[slideKey]*slide // what was touched lately
	old     map[slideKey]*slide // what was touched before that
	started bool
	closed  bool
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// slide is what is known of the life of one stored value.
type slide struct {
	key  slideKey
	ttl  atomic.Int64 // nanoseconds, as stored with the value
	next atomic.Int64 // when a read asks for the next extension; 0 is at once
}

// slideKey names a content or, with metadata set, metadata.
type slideKey struct {
	Key
	metadata bool
}

const (
	// slideTick is how often the clock moves and extensions are sent.
	slideTick = 100 * time.Millisecond
	// slidePart of a time to live passes between two extensions, and slideRetry
	// of it after one that came to nothing.
	slidePart, slideRetry = 4, 32
	// slideQueue bounds what waits to be sent, slideKnown half of the entries
	// whose last extension is remembered.
	slideQueue, slideKnown = 4096, 1 << 14
	// slideTimeout bounds one round.
	slideTimeout = 5 * time.Second
)

func newSlides(send func(context.Context, []*slide) error, m *telemetry.Metrics) *slides {
	l := &slides{
		queue:   make(chan *slide, slideQueue),
		send:    send,
		sent:    m.TTLExtensions.WithLabelValues(telemetry.ExtensionSent),
		dropped: m.TTLExtensions.WithLabelValues(telemetry.ExtensionDropped),
		failed:  m.TTLExtensions.WithLabelValues(telemetry.ExtensionFailed),
		young:   make(map[slideKey]*slide),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// of returns what is known of a value, and notes the time to live stored with
// it. It starts the goroutine, without which the clock would stand still.
func (l *slides) of(key slideKey, ttl time.Duration) *slide {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started && !l.closed {
		l.started, l.seen = true, time.Now()
		l.done.Go(l.run)
	}
	e, known := l.young[key]
	if !known {
		if e, known = l.old[key]; !known {
			key.ID = strings.Clone(key.ID)
			e = &slide{key: key}
		}
		if len(l.young) >= slideKnown {
			l.old, l.young = l.young, make(map[slideKey]*slide, slideKnown)
		}
		l.young[key] = e
	}
	due := l.clock.Load() + int64(ttl)/slidePart
	if was := e.ttl.Swap(int64(ttl)); int64(ttl) < was {
		due = 0 // it may have been given that long ago
	}
	for {
		if next := e.next.Load(); next <= due || e.next.CompareAndSwap(next, due) {
			return e
		}
	}
}

// saved notes that a value was just written with its time to live.
func (l *slides) saved(key slideKey, ttl time.Duration) *slide {
	e := l.of(key, ttl)
	if e != nil {
		e.next.Store(l.clock.Load() + int64(ttl)/slidePart)
	}
	return e
}

// read is called by every read of e. It takes no lock and allocates nothing.
func (l *slides) read(e *slide) {
	if e == nil {
		return
	}
	if next, now := e.next.Load(), l.clock.Load(); now >= next {
		l.ask(e, next, now)
	}
}

// ask queues an extension, once for all reads that find e due.
func (l *slides) ask(e *slide, next, now int64) {
	ttl := e.ttl.Load()
	if !e.next.CompareAndSwap(next, now+max(ttl/slidePart, 1)) {
		return
	}
	select {
	case l.queue <- e:
	default:
		l.dropped.Inc()
		e.next.Store(now + max(ttl/slideRetry, 1))
	}
}

func (l *slides) run() {
	tick := time.NewTicker(slideTick)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			l.advance(now.Sub(l.seen), now.Round(0).Sub(l.seen.Round(0)))
			l.seen = now
			for batch := l.drain(); len(batch) > 0; batch = l.drain() {
				l.round(batch)
			}
		}
	}
}

// advance moves the clock by the larger of two steps: the wall clock can be set
// back, after which no read would find anything due, and the monotonic one stands
// still while a machine is suspended, whereas Redis goes on.
func (l *slides) advance(monotonic, wall time.Duration) {
	l.clock.Add(int64(max(monotonic, wall, 0)))
}

// drain takes what is queued, up to one batch.
func (l *slides) drain() []*slide {
	var batch []*slide
	for len(batch) < maxBatch {
		select {
		case e := <-l.queue:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// round sends a batch. In an outage nothing is said here: reads notice it.
func (l *slides) round(batch []*slide) {
	ctx, cancel := context.WithTimeout(l.ctx, slideTimeout)
	defer cancel()
	if err := l.send(ctx, batch); err == nil {
		l.sent.Add(float64(len(batch)))
		return
	}
	l.failed.Add(float64(len(batch)))
	for _, e := range batch {
		e.next.Store(l.clock.Load() + max(e.ttl.Load()/slideRetry, 1))
	}
}

// close ends the goroutine and waits for it.
func (l *slides) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.done.Wait()
}
