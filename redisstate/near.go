package redisstate

import (
	"fmt"
	"math"
	"strings"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// near is the in-process cache of contents read by Ref. It is keyed by id, so
// that everything known of an id goes at once, and holds a few contents per id.
// Contents are immutable, so what it answers is never stale. Which of them is the
// current one of an id, current knows.
type near struct {
	cache  *otter.Cache[string, *nearEntry]
	hits   prometheus.Counter
	misses prometheus.Counter
}

// nearEntry is what is known of an id. It is replaced, never changed.
type nearEntry struct {
	last    known   // the content added last, most likely the one asked for
	earlier []known // others, newest first
}

// known is one content of an id and what was stored with it.
type known struct {
	digest   Digest // of content, here to save a step on the way to it
	content  *content
	workflow string
	slide    *slide // nil: reads do not extend it
}

const (
	// maxKnown bounds the contents kept of one id.
	maxKnown = 8
	// nearFactor is how often a config's JSON is counted: the JSON itself and
	// the decoded value, which is about twice as large.
	nearFactor = 3
	// nearOverhead is counted per content for what surrounds it, in bytes.
	nearOverhead = 512
)

// newNear returns nil for a negative bound: no cache.
func newNear(bytes int64, m *telemetry.Metrics) (*near, error) {
	if bytes < 0 {
		return nil, nil
	}
	cache, err := otter.New(&otter.Options[string, *nearEntry]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ string, e *nearEntry) uint32 { return e.weight() },
		// Maintenance is short and nothing of ours runs in it: on the caller's
		// goroutine it costs less than starting one, and nothing outlives Close.
		Executor: func(task func()) { task() },
	})
	if err != nil {
		return nil, fmt.Errorf("redisstate: near cache: %w", err)
	}
	return &near{
		cache:  cache,
		hits:   m.CacheHits.WithLabelValues(telemetry.CacheNear),
		misses: m.CacheMisses.WithLabelValues(telemetry.CacheNear),
	}, nil
}

func (e *nearEntry) weight() uint32 {
	total := e.last.weight()
	for _, k := range e.earlier {
		total += k.weight()
	}
	return uint32(min(total, math.MaxUint32))
}

func (k known) weight() int { return nearFactor*len(k.content.json) + nearOverhead }

// get finds the content that key pins; nil means that it is not here. It takes
// no lock and allocates nothing.
func (n *near) get(key Key) *known {
	if n == nil {
		return nil
	}
	if k := n.find(key); k != nil {
		n.hits.Inc()
		return k
	}
	n.misses.Inc()
	return nil
}

// find is get uncounted.
func (n *near) find(key Key) *known {
	if n == nil {
		return nil
	}
	if e, ok := n.cache.GetIfPresent(key.ID); ok {
		return e.find(key.Digest)
	}
	return nil
}

func (e *nearEntry) find(d Digest) *known {
	if e.last.digest == d {
		return &e.last
	}
	for i := range e.earlier {
		if e.earlier[i].digest == d {
			return &e.earlier[i]
		}
	}
	return nil
}

// add remembers a content of an id.
func (n *near) add(id string, c *content, workflow string, sl *slide) {
	if n == nil {
		return
	}
	k := known{digest: c.digest, content: c, workflow: workflow, slide: sl}
	if e, ok := n.cache.GetEntryQuietly(id); ok && e.Value.last == k {
		return
	}
	n.cache.Compute(strings.Clone(id), func(old *nearEntry, found bool) (*nearEntry, otter.ComputeOp) {
		fresh := &nearEntry{last: k}
		if found {
			for _, o := range append([]known{old.last}, old.earlier...) {
				if o.digest != k.digest && len(fresh.earlier) < maxKnown-1 {
					fresh.earlier = append(fresh.earlier, o)
				}
			}
		}
		return fresh, otter.WriteOp
	})
}

// drop forgets everything about an id.
func (n *near) drop(id string) {
	if n != nil {
		n.cache.Invalidate(id)
	}
}

func (n *near) close() {
	if n != nil {
		n.cache.InvalidateAll()
		n.cache.StopAllGoroutines()
	}
}
