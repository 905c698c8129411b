package redisstate

import (
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// content is what a digest stands for: it never changes, so everything that
// reads the same digest may share it. It keeps each type it was decoded into.
type content struct {
	digest  Digest
	json    []byte // canonical; read-only
	codec   Codec
	decoded atomic.Pointer[decoded] // newest first
	mu      sync.Mutex              // one decoding at a time
}

// decoded is a list of decoded values, one per type, that only grows.
type decoded struct {
	value any // a *T
	next  *decoded
}

func newContent(s sum, json []byte, codec Codec) *content {
	return &content{digest: s.digest(), json: json, codec: codec}
}

func newContentOf(json []byte, codec Codec) (*content, sum) {
	s := sum(sha256.Sum256(json))
	return newContent(s, json, codec), s
}

// find returns the value decoded into T before. It is the hot path: no lock, no
// allocation.
func find[T any](c *content) (*T, bool) {
	for d := c.decoded.Load(); d != nil; d = d.next {
		if v, ok := d.value.(*T); ok {
			return v, true
		}
	}
	return nil, false
}

// decodeContent decodes c into T, once.
func decodeContent[T any](c *content) (*T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := find[T](c); ok {
		return v, nil
	}
	v := new(T)
	if err := c.codec.Unmarshal(c.json, v); err != nil {
		return nil, decodeError[T](err)
	}
	c.decoded.Store(&decoded{value: v, next: c.decoded.Load()})
	return v, nil
}

// contents finds the content of a digest that is in use somewhere in the
// process, so that it is verified and decoded once whichever id leads to it. It
// keeps nothing alive by itself. The zero value is ready.
type contents struct {
	mu    sync.RWMutex
	bySum map[sum]weak.Pointer[content]
}

func (t *contents) get(s sum) *content {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bySum[s].Value()
}

// share returns the content that everyone uses for s: c, unless another was
// there first.
func (t *contents) share(s sum, c *content) *content {
	if first := t.get(s); first != nil {
		return first
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if first := t.bySum[s].Value(); first != nil {
		return first
	}
	if t.bySum == nil {
		t.bySum = make(map[sum]weak.Pointer[content])
	}
	mine := weak.Make(c)
	t.bySum[s] = mine
	runtime.AddCleanup(c, func(s sum) { t.forget(s, mine) }, s)
	return c
}

// forget takes out a content that was collected, unless it has a successor.
func (t *contents) forget(s sum, gone weak.Pointer[content]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySum[s] == gone {
		delete(t.bySum, s)
	}
}
