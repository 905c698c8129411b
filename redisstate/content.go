package redisstate

import (
	"crypto/sha256"
	"encoding/binary"
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
		return nil, decodeError(v, err)
	}
	c.decoded.Store(&decoded{value: v, next: c.decoded.Load()})
	return v, nil
}

// contents finds the content of a digest that is in use somewhere in the
// process, so that it is verified and decoded once whichever id leads to it. It
// is a help and no promise: two digests that fall into the same slot take turns
// in it. It has a fixed size, takes no lock and keeps no content alive. The zero
// value is ready, and a nil *contents knows nothing.
type contents struct {
	slots [contentSlots]atomic.Pointer[slot]
}

// contentSlots is how many digests contents knows at most, a power of two. What
// one process uses at a time is less.
const contentSlots = 1 << 13

// slot is never changed, only replaced.
type slot struct {
	sum     sum
	content weak.Pointer[content]
}

func (t *contents) at(s sum) *atomic.Pointer[slot] {
	return &t.slots[binary.LittleEndian.Uint16(s[:])%contentSlots]
}

func (x *slot) get(s sum) *content {
	if x == nil || x.sum != s {
		return nil
	}
	return x.content.Value()
}

func (t *contents) get(s sum) *content {
	if t == nil {
		return nil
	}
	return t.at(s).Load().get(s)
}

// share returns the content that everyone uses for s: c, unless another was
// there first.
func (t *contents) share(s sum, c *content) *content {
	if t == nil {
		return c
	}
	at := t.at(s)
	return c.replace(at, at.Load(), s)
}

// replace puts c in place of old, unless another with the same digest came first.
func (c *content) replace(at *atomic.Pointer[slot], old *slot, s sum) *content {
	for {
		if first := old.get(s); first != nil {
			return first
		}
		if at.CompareAndSwap(old, &slot{sum: s, content: weak.Make(c)}) {
			return c
		}
		old = at.Load()
	}
}
