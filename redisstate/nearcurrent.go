package redisstate

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// current knows which content ids have now, for Options.NearCacheByKey. The
// contents themselves are in the near cache, or it knows nothing.
//
// Whoever writes over a config, or deletes it, rings a bell in the same
// transaction, and every process hears it. A read that is to be remembered takes
// a token before it asks Redis; a bell for its id that comes before it is
// remembered makes the token void, and so does a flush. What was never heard of
// is dealt with by age: an entry ends with the life that its config had when it
// was read, and after maxCurrentAge. Nothing is remembered or answered unless
// bells are known to arrive, see beats.
type current struct {
	near  *near
	beats *beats

	mu     sync.Mutex
	tokens map[string]*reads // ids that are being read
	flush  uint64            // how often everything was forgotten
	known  *otter.Cache[string, currently]

	filled, overtaken, bells, flushed prometheus.Counter
}

// currently is what is known of an id.
type currently struct {
	digest Digest
	until  time.Duration // since the start of beats' clock
}

// reads are those of an id that are under way at the same time. If they bring
// different contents, a bell is on its way, and none of them is remembered: which
// one is the later cannot be told.
type reads struct {
	waiting int
	bells   uint64 // that rang since the first of them began
	brought Digest // what the first of them brought that ended
}

// token is a read.
type token struct {
	id           string
	remember     bool // bells were known to arrive when it began
	reads        *reads
	bells, flush uint64
	began        time.Duration
	ended        bool
}

const (
	// maxCurrentAge bounds for how long an id is answered without Redis. It is what
	// is left when Redis removes a config by itself (eviction, FLUSHALL) and
	// somebody saves another under its id, for which no bell rings.
	maxCurrentAge = 30 * time.Second
	// currentShare is the part of the near cache's bytes that may be used for
	// remembering ids, and currentOverhead what is counted for one beside its name.
	currentShare, currentOverhead = 8, 200
)

func newCurrent(n *near, b *beats, bytes int64, m *telemetry.Metrics) (*current, error) {
	known, err := otter.New(&otter.Options[string, currently]{
		MaximumWeight: uint64(max(bytes/currentShare, 1)),
		Weigher:       func(id string, _ currently) uint32 { return uint32(len(id) + currentOverhead) },
		Executor:      func(task func()) { task() },
	})
	if err != nil {
		return nil, fmt.Errorf("redisstate: near cache: %w", err)
	}
	c := &current{
		near: n, beats: b, tokens: make(map[string]*reads), known: known,
		filled:    m.NearCache.WithLabelValues(telemetry.NearFilled),
		overtaken: m.NearCache.WithLabelValues(telemetry.NearOvertaken),
		bells:     m.NearCache.WithLabelValues(telemetry.NearBell),
		flushed:   m.NearCache.WithLabelValues(telemetry.NearFlushed),
	}
	return c, nil
}

// get answers an id without Redis; nil means that this is not possible. It takes
// no lock.
func (c *current) get(id string) *known {
	if c == nil || !c.beats.fresh() {
		return nil
	}
	if k := c.find(id); k != nil {
		c.near.hits.Inc()
		return k
	}
	c.near.misses.Inc()
	return nil
}

// find is get uncounted.
func (c *current) find(id string) *known {
	if c == nil || !c.beats.fresh() {
		return nil
	}
	if now, ok := c.known.GetIfPresent(id); ok && c.beats.now() < now.until {
		return c.near.find(Key{ID: id, Digest: now.digest})
	}
	return nil
}

// begin is called before an id is read from Redis, and done with what it returns
// afterwards.
func (c *current) begin(id string) *token {
	if c == nil {
		return nil
	}
	fresh := c.beats.fresh()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.tokens[id]
	if r == nil {
		id = strings.Clone(id)
		r = new(reads)
		c.tokens[id] = r
	}
	r.waiting++
	return &token{id: id, remember: fresh, reads: r, bells: r.bells, flush: c.flush, began: c.beats.now()}
}

// failed ends tokens whose reads did not come to their end.
func (c *current) failed(tokens ...*token) {
	for _, t := range tokens {
		c.done(t, "", 0)
	}
}

// missing is what a read brings of an id that Redis does not have.
const missing Digest = "missing"

// brought is what a read brought; empty if it failed.
func brought(config Config, err error) Digest {
	if errors.Is(err, ErrNotFound) {
		return missing
	}
	return config.Ref.Digest
}

// done remembers what was read, which had life left when it was, unless a bell
// has rung since the read began. Only the first call for a token counts.
func (c *current) done(t *token, digest Digest, life time.Duration) {
	if t == nil || t.ended {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.ended = true
	if t.reads.waiting--; t.reads.waiting == 0 {
		delete(c.tokens, t.id)
	}
	if digest == "" {
		return
	}
	if t.reads.brought == "" {
		t.reads.brought = digest
	}
	switch {
	case t.reads.brought != digest: // those that begin from now on bring the later one
		t.reads.brought = digest
		t.reads.bells++
		c.known.Invalidate(t.id)
		c.overtaken.Inc()
	case !t.remember || life <= 0 || digest == missing:
	case t.bells != t.reads.bells || t.flush != c.flush:
		c.overtaken.Inc()
	default:
		c.known.Set(t.id, currently{digest: digest, until: t.began + min(life, maxCurrentAge)})
		c.filled.Inc()
	}
}

// forget is what a bell does, and the end of a write of this process.
func (c *current) forget(ids ...string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if r := c.tokens[id]; r != nil {
			r.bells++
		}
		c.known.Invalidate(id)
	}
}

// heard is called for a bell.
func (c *current) heard(id string) {
	c.bells.Inc()
	c.forget(id)
}

// forgetAll is for when bells may have been missed.
func (c *current) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush++
	c.known.InvalidateAll()
	c.flushed.Inc()
}

func (c *current) close() {
	if c != nil {
		c.beats.close()
		c.known.InvalidateAll()
		c.known.StopAllGoroutines()
	}
}

// clock is time since a moment, by the monotonic clock.
type clock struct{ began time.Time }

func (c clock) now() time.Duration { return time.Since(c.began) }

// newCurrent connects what is known of ids with the bells that tell of changes.
func (s *Store) newCurrent(bytes int64) (*current, error) {
	b := newBeats(s.client, s.space, s.log, s.metrics.CacheBypass.WithLabelValues(telemetry.CacheNear))
	c, err := newCurrent(s.near, b, bytes, s.metrics)
	if err != nil {
		return nil, err
	}
	b.flush = c.forgetAll
	b.bell = func(payload string) {
		if id, ok := s.bells.parse(payload); ok {
			c.heard(id)
		}
	}
	return c, nil
}
