package redisstate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Get implements ConfigStore. A pinned key that was read before in this process
// is answered without Redis; so is one that is not, with Options.NearCacheByKey.
func (s *Store) Get(ctx context.Context, key Key) (Config, error) {
	if s.closed.Load() {
		return Config{}, fail(opGet, ErrClosed)
	}
	if k := s.nearby(key); k != nil {
		s.slides.read(k.slide)
		return k.config(key.ID), nil
	}
	return s.read(ctx, key)
}

// Near tells whether Get would answer key now from this process, without Redis.
// It counts as no read.
func (s *Store) Near(key Key) bool {
	switch {
	case s.closed.Load():
		return false
	case key.Digest == "":
		return s.current.find(key.ID) != nil
	}
	return s.near.find(key) != nil
}

// nearby is what this process knows of a key.
func (s *Store) nearby(key Key) *known {
	if key.Digest == "" {
		return s.current.get(key.ID)
	}
	return s.near.get(key)
}

func (k *known) config(id string) Config {
	return Config{Ref: Ref{ID: id, Digest: k.digest}, Workflow: k.workflow, content: k.content}
}

// read answers one key from Redis.
func (s *Store) read(ctx context.Context, key Key) (Config, error) {
	want, pinned, err := key.check()
	if err != nil {
		return Config{}, fail(opGet, err)
	}
	var remember *token
	if !pinned {
		remember = s.current.begin(key.ID)
		defer s.current.failed(remember) // if a hook of the host panics
	}
	f := s.fetch(ctx, &fetching{name: s.space.Config(key.ID), token: remember})
	config, err := s.open(ctx, key.ID, f.raw, f.err)
	s.current.done(remember, brought(config, err), f.life)
	if pinned && !holds(config, err, key) && !ends(err) {
		held := f.raw
		f := s.fetch(ctx, &fetching{name: s.aside(key.ID, want)})
		config, err = s.settle(ctx, key, held, err, f.raw, f.err)
	}
	s.count(err)
	if s.source != nil && errors.Is(err, ErrNotFound) {
		return s.regenerate(ctx, key)
	}
	return config, err
}

// fetching is one GET on its way.
type fetching struct {
	name  string
	token *token // not nil: what is left of its life is asked for too
	raw   []byte
	life  time.Duration // when it was read, or a little before
	err   error
	// cut tells that the connection failed after others of the pipeline had their
	// replies: Redis is there, and a value that takes too long may be to blame.
	cut bool
}

// fetch reads one key. Reads at the same time share round trips, except on
// Cluster. What a shared trip was cut off from is read again, once and alone: so
// the caller is not worse off than without company.
func (s *Store) fetch(ctx context.Context, f *fetching) *fetching {
	if !s.ordered {
		s.fetchOne(ctx, f)
		return f
	}
	if err := s.fetches.Do(ctx, f); err != nil {
		return &fetching{err: err} // f may still be on its way
	}
	if f.cut && ctx.Err() == nil {
		s.fetchOne(ctx, f)
	}
	return f
}

// fetchShared makes one trip of fetches. Who wants the same shares the reply,
// whose bytes nobody changes. Each has its own error.
func (s *Store) fetchShared(ctx context.Context, all []*fetching) error {
	if len(all) == 1 {
		s.fetchOne(ctx, all[0])
		return nil
	}
	first := make(map[string]*fetching, len(all))
	distinct := make([]*fetching, 0, len(all))
	for _, f := range all {
		if first[f.name] == nil || (first[f.name].token == nil && f.token != nil) {
			first[f.name] = f
			distinct = append(distinct, f)
		}
	}
	s.fetchAll(ctx, distinct)
	for _, f := range all {
		t := f.token
		*f = *first[f.name]
		f.token = t
	}
	return nil
}

func (s *Store) fetchOne(ctx context.Context, f *fetching) {
	if f.token != nil {
		s.fetchPipeline(ctx, []*fetching{f})
		return
	}
	f.raw, f.err = s.client.Get(ctx, f.name).Bytes()
	s.largest.note(f)
}

// fetchAll makes fetches in one pipeline. Each has its own error.
func (s *Store) fetchAll(ctx context.Context, all []*fetching) {
	if len(all) == 1 {
		s.fetchOne(ctx, all[0])
		return
	}
	s.fetchPipeline(ctx, all)
}

func (s *Store) fetchPipeline(ctx context.Context, all []*fetching) {
	replies := make([]*redis.StringCmd, len(all))
	lives := make(map[*fetching]*redis.DurationCmd)
	queue := make([]redis.Cmder, 0, len(all))
	for i, f := range all {
		if f.token != nil {
			// Before the value: one that comes after an expiry has no less.
			lives[f] = redis.NewDurationCmd(ctx, time.Millisecond, "pttl", f.name)
			queue = append(queue, lives[f])
		}
		replies[i] = redis.NewStringCmd(ctx, "get", f.name)
		queue = append(queue, replies[i])
	}
	_, _ = rediserr.Settle(s.client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.BatchProcess(ctx, queue...) }))
	some := false
	for i, f := range all {
		f.raw, f.err = replies[i].Bytes()
		if left := lives[f]; left != nil {
			if f.life = left.Val(); f.life == forever {
				f.life = maxCurrentAge
			}
		}
		some = some || answers(f.err)
		s.largest.note(f)
	}
	for _, f := range all {
		f.cut = some && !answers(f.err)
	}
}

// forever is PTTL's answer for a key without expiry.
const forever = time.Duration(-1)

// answers tells whether Redis answered a command that ended in err.
func answers(err error) bool {
	_, reply := errors.AsType[redis.Error](err)
	return err == nil || reply
}

// recentLargest estimates how large the next value may be: like the largest of
// the last few hundred. What is not there says nothing.
type recentLargest struct{ bytes atomic.Int64 }

func (l *recentLargest) note(f *fetching) {
	if len(f.raw) > 0 {
		before := l.bytes.Load()
		l.bytes.Store(max(int64(len(f.raw)), before-before/64))
	}
}

// GetMany implements ConfigStore: one round trip for the keys that the near
// cache does not answer (on Cluster one per node, at the same time), and a
// second one if some of them pin content that was overwritten. What is missing
// is then asked of the Source, a few at a time.
func (s *Store) GetMany(ctx context.Context, keys ...Key) (map[Key]Config, error) {
	if err := s.checkOpen(opGet); err != nil {
		return nil, err
	}
	found := make(map[Key]Config, len(keys))
	wanted, err := s.wanted(keys, found)
	if err != nil {
		return nil, err
	}
	var errs []error
	for len(wanted) > 0 {
		var missing []*reading
		batch := wanted[:min(len(wanted), maxBatch)]
		wanted = wanted[len(batch):]
		if err := s.readBatch(ctx, batch); err != nil {
			return nil, err
		}
		for _, r := range batch {
			s.count(r.err)
			if s.source != nil && errors.Is(r.err, ErrNotFound) {
				missing = append(missing, r)
			}
		}
		s.regenerateAll(ctx, missing)
		for _, r := range batch {
			switch {
			case r.err == nil:
				found[r.key] = r.config
			case !errors.Is(r.err, ErrNotFound) || errors.Is(r.err, ErrSourceMismatch):
				errs = append(errs, r.err)
			}
		}
	}
	return found, errors.Join(errs...)
}

// maxBatch bounds the keys in one pipeline, so that its replies stay bounded.
const maxBatch = 1000

// reading is one key of GetMany on its way through Redis.
type reading struct {
	key    Key
	want   sum
	pinned bool
	held   []byte // what is current
	config Config
	err    error
}

// wanted checks all keys, answers what the near cache can and returns the rest.
func (s *Store) wanted(keys []Key, found map[Key]Config) ([]*reading, error) {
	var errs []error
	var rest []*reading
	seen := make(map[Key]bool, len(keys))
	for i, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		want, pinned, err := key.check()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): key %d of %d: %w", opGet, family, i+1, len(keys), err))
			continue
		}
		if k := s.nearby(key); k != nil {
			s.slides.read(k.slide)
			found[key] = k.config(key.ID)
			continue
		}
		rest = append(rest, &reading{key: key, want: want, pinned: pinned})
	}
	return rest, errors.Join(errs...)
}

// readBatch reads current contents, then what must have been put aside. It
// returns only errors that concern all keys.
func (s *Store) readBatch(ctx context.Context, batch []*reading) error {
	tokens := make([]*token, 0, len(batch))
	defer func() { s.current.failed(tokens...) }() // if a hook of the host panics
	replies := s.getAll(ctx, batch, func(r *reading) *fetching {
		f := &fetching{name: s.space.Config(r.key.ID)}
		if !r.pinned {
			f.token = s.current.begin(r.key.ID)
			tokens = append(tokens, f.token)
		}
		return f
	})
	var again []*reading
	for i, r := range batch {
		r.held = replies[i].raw
		r.config, r.err = s.open(ctx, r.key.ID, r.held, replies[i].err)
		s.current.done(replies[i].token, brought(r.config, r.err), replies[i].life)
	}
	for _, r := range batch {
		if ends(r.err) {
			return r.err
		}
		if r.pinned && !holds(r.config, r.err, r.key) {
			again = append(again, r)
		}
	}
	if len(again) == 0 {
		return nil
	}
	replies = s.getAll(ctx, again, func(r *reading) *fetching { return &fetching{name: s.aside(r.key.ID, r.want)} })
	for i, r := range again {
		if r.config, r.err = s.settle(ctx, r.key, r.held, r.err, replies[i].raw, replies[i].err); ends(r.err) {
			return r.err
		}
	}
	return nil
}

// getAll reads one key per reading in one pipeline. Each has its own error.
func (s *Store) getAll(ctx context.Context, batch []*reading, of func(*reading) *fetching) []*fetching {
	all := make([]*fetching, len(batch))
	for i, r := range batch {
		all[i] = of(r)
	}
	s.fetchAll(ctx, all)
	return all
}

// open turns a reply into a config: stored bytes are taken apart, decrypted,
// verified unless their content is known, and remembered. What is encrypted is
// always decrypted, though its digest may be known: only that proves that the
// header, digest included, belongs to this id.
func (s *Store) open(ctx context.Context, id string, raw []byte, err error) (Config, error) {
	if err != nil {
		return Config{}, redisError(ctx, opGet, err)
	}
	v, err := decodeHeader(raw)
	if err != nil {
		return Config{}, fail(opGet, err)
	}
	if err := v.unlock(s.envelope, id); err != nil {
		return Config{}, fail(opGet, err)
	}
	c := s.contents.get(v.sum)
	if c == nil {
		if err := v.unpack(s.envelope); err != nil {
			return Config{}, fail(opGet, err)
		}
		c = s.contents.share(v.sum, newContent(v.sum, v.payload, s.codec))
	}
	sl := s.slides.of(slideKey{Key: Key{ID: id, Digest: c.digest}}, v.ttl)
	s.slides.read(sl)
	s.near.add(id, c, v.workflow, sl)
	return Config{Ref: Ref{ID: id, Digest: c.digest}, Workflow: v.workflow, content: c}, nil
}

// settle decides what a pinned read gives when the current content was not it:
// what was put aside if that is right, else the reason why not. held is the current
// content and first why it cannot be read, which is no reason if it is other content anyway.
func (s *Store) settle(ctx context.Context, key Key, held []byte, first error, raw []byte, err error) (Config, error) {
	config, err := s.open(ctx, key.ID, raw, err)
	switch {
	case err == nil && config.Ref.Digest == key.Digest:
		return config, nil
	case err == nil: // put there by someone else: not what the ref names
		return Config{}, fail(opGet, fmt.Errorf("%w: other content than its name says was put aside", ErrCorrupt))
	case errors.Is(err, ErrNotFound) && first != nil:
		unreadable := errors.Is(first, ErrNewerFormat) || errors.Is(first, ErrUnknownKey)
		if content, known := heldSum(held); unreadable && known && content.digest() != key.Digest {
			return Config{}, err
		}
		return Config{}, first
	}
	return Config{}, err
}

// holds tells whether a read gave the content that a key pins.
func holds(config Config, err error, key Key) bool {
	return err == nil && config.Ref.Digest == key.Digest
}

// ends tells whether err concerns Redis or the caller, so that asking for
// another key makes no sense.
func ends(err error) bool {
	var known *Error
	return errors.As(err, &known)
}

// aside is the key of content that was overwritten.
func (s *Store) aside(id string, content sum) string {
	return s.space.ConfigAt(id, string(content.digest()))
}

// count counts a read that Redis answered.
func (s *Store) count(err error) {
	switch {
	case err == nil:
		s.hits.Inc()
	case errors.Is(err, ErrNotFound):
		s.misses.Inc()
	}
}

// sameContent tells whether two stored values hold the same content.
func sameContent(a, b value) bool { return a.sum == b.sum }
