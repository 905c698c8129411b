package redisstate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Lifetimes tell and change how long configs stay. Store has them. Errors are
// those of ConfigStore.
type Lifetimes interface {
	// TTL is how much longer a config stays: the current content of the key's id
	// or, with a digest, exactly that content. It is negative for a config that
	// never expires, which only another program can bring about. Errors:
	// ErrNotFound, ErrInvalidKey, ErrWrongType.
	TTL(ctx context.Context, key Key) (time.Duration, error)
	// Extend makes configs stay for at least ttl from now, and tells how many of
	// them there are. It never shortens a life. 0 means for each config the time
	// to live that it was saved with. The listing of the configs' workflows is
	// extended along. Errors: ErrInvalidKey and ErrInvalidValue, told before
	// anything is extended.
	Extend(ctx context.Context, ttl time.Duration, keys ...Key) (int, error)
	// ExtendWorkflow does the same for everything that was saved for a workflow,
	// overwritten content included, and tells how many current configs it has.
	ExtendWorkflow(ctx context.Context, workflow string, ttl time.Duration) (int, error)
	// DeleteWorkflow removes everything that was saved for a workflow,
	// overwritten content included, and tells how many current configs there
	// were. Configs that were moved to another workflow stay, and a process that has
	// read one by Ref may still have it in its near cache. Errors: ErrInvalidKey.
	DeleteWorkflow(ctx context.Context, workflow string) (int, error)
	// Count tells how many configs Scan would list.
	Count(ctx context.Context, scope Scope) (int, error)
}

// headBytes is enough of a stored value to read its header.
const headBytes = headerBytes + 2*binary.MaxVarintLen64 + keys.MaxIDBytes

// TTL implements Lifetimes.
func (s *Store) TTL(ctx context.Context, key Key) (time.Duration, error) {
	if err := s.checkOpen(opTTL); err != nil {
		return 0, err
	}
	want, pinned, err := key.check()
	if err != nil {
		return 0, fail(opTTL, err)
	}
	names := []string{s.space.Config(key.ID)}
	if pinned {
		names = append(names, s.aside(key.ID, want))
	}
	heads, lives := make([]*redis.StringCmd, len(names)), make([]*redis.DurationCmd, len(names))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			heads[i], lives[i] = p.GetRange(ctx, name, 0, headerBytes-1), p.PTTL(ctx, name)
		}
		return nil
	})
	if err = unlessReply(err, cmds); err != nil {
		return 0, redisError(ctx, opTTL, err)
	}
	longest, found := time.Duration(0), false
	for i, life := range lives {
		head, err := heads[i].Bytes()
		if !pinned && err != nil {
			return 0, redisError(ctx, opTTL, err)
		}
		if held, ok := heldSum(head); pinned && (!ok || held != want) {
			continue
		}
		switch left := life.Val(); {
		case left == -1:
			return left, nil
		case left >= 0:
			longest, found = max(longest, left), true
		}
	}
	if !found {
		return 0, &MissingError{Op: opTTL, Family: family}
	}
	return longest, nil
}

// heldSum reads the digest of a stored value from its head, of whatever format.
func heldSum(head []byte) (sum, bool) {
	if len(head) < headerBytes || head[0] == 0 || head[0] > lastVersion {
		return sum{}, false
	}
	return sum(head[digestAt:headerBytes]), true
}

// Extend implements Lifetimes.
func (s *Store) Extend(ctx context.Context, ttl time.Duration, keys ...Key) (int, error) {
	if err := s.checkOpen(opExtend); err != nil {
		return 0, err
	}
	errs := []error{checkExtension(ttl)}
	all := make([]*life, 0, len(keys))
	seen := make(map[Key]bool, len(keys))
	for i, key := range keys {
		want, pinned, err := key.check()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): key %d of %d: %w", opExtend, family, i+1, len(keys), err))
		}
		if !seen[key] {
			seen[key] = true
			all = append(all, &life{key: key, want: want, pinned: pinned})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	err := s.extend(ctx, ttl, all)
	found := 0
	for _, l := range all {
		if len(l.places) > 0 {
			found++
		}
	}
	return found, redisError(ctx, opExtend, err)
}

func checkExtension(ttl time.Duration) error {
	if ttl != 0 && ttl < time.Millisecond {
		return fail(opExtend, fmt.Errorf("%w: the time to live is %v; use at least 1ms, or 0 for each config's own", ErrInvalidValue, ttl))
	}
	return nil
}

// life is one config on its way to a longer life.
type life struct {
	key    Key
	want   sum
	pinned bool
	of     string // the workflow that it must be of; "" is any

	places []place // where it was found
}

// place is a key that holds the content.
type place struct {
	name   string
	index  string // that lists it; may be empty
	member string // as what
	ttl    time.Duration
}

// extend looks where the contents are and extends those keys, after the indexes
// that list them: an index must not expire before what it lists. ttl 0 means
// what is stored with each.
func (s *Store) extend(ctx context.Context, ttl time.Duration, all []*life) error {
	for len(all) > 0 {
		batch := all[:min(len(all), maxBatch)]
		all = all[len(batch):]
		if err := s.locate(ctx, ttl, batch); err != nil {
			return err
		}
		if err := s.extendPlaces(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// extendPlaces extends what was located, and what lists it: on one server at
// once, but without the scores if Redis refuses those for want of memory.
func (s *Store) extendPlaces(ctx context.Context, batch []*life) error {
	listed := s.listings(batch)
	values := func(p redis.Pipeliner) {
		for _, l := range batch {
			for _, at := range l.places {
				p.Do(ctx, "pexpire", at.name, at.ttl.Milliseconds(), "gt")
			}
		}
	}
	if s.ordered && len(listed) > 0 {
		cmds, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			extendAll(ctx, p, listed, true)
			values(p)
			return nil
		})
		if !redis.IsExecAbortError(err) {
			return rediserr.Reason(err, cmds)
		}
	}
	mended := false
	if !s.ordered && len(listed) > 0 {
		// Listings are lost alone there, in a fail-over of the index's master. Nobody trusts
		// them, so one too many harms nobody.
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, x := range listed {
				x.add(ctx, p)
			}
			return nil
		})
		mended = err == nil // not without memory
	}
	if len(listed) > 0 && !mended {
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { extendAll(ctx, p, listed, false); return nil })
		if err != nil {
			return err
		}
	}
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { values(p); return nil })
	return err
}

// listings are the changes to the indexes that list what is extended.
func (s *Store) listings(batch []*life) map[string]*index {
	all := make(map[string]*index)
	now := s.now()
	for _, l := range batch {
		for _, at := range l.places {
			if at.index == "" {
				continue
			}
			if all[at.index] == nil {
				all[at.index] = &index{key: at.index}
			}
			all[at.index].list(at.member, now, at.ttl)
		}
	}
	return all
}

func extendAll(ctx context.Context, p redis.Pipeliner, all map[string]*index, scores bool) {
	for _, x := range all {
		x.extend(ctx, p, scores)
	}
}

// locate fills in where the contents of a batch are.
func (s *Store) locate(ctx context.Context, ttl time.Duration, batch []*life) error {
	current, aside := make([]*redis.StringCmd, len(batch)), make([]*redis.StringCmd, len(batch))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, l := range batch {
			current[i] = p.GetRange(ctx, s.space.Config(l.key.ID), 0, headBytes-1)
			if l.pinned {
				aside[i] = p.GetRange(ctx, s.aside(l.key.ID, l.want), 0, headBytes-1)
			}
		}
		return nil
	})
	if err = unlessReply(err, cmds); err != nil {
		return err
	}
	for i, l := range batch {
		l.places = nil
		s.place(l, current[i], place{name: s.space.Config(l.key.ID), member: l.key.ID, ttl: ttl}, s.space.WorkflowIndex)
		if l.pinned {
			at := place{name: s.aside(l.key.ID, l.want), member: asideMember(l.key.ID, l.key.Digest), ttl: ttl}
			s.place(l, aside[i], at, s.space.WorkflowAsideIndex)
		}
	}
	return nil
}

// listedFor is how long an index lives that lists what lives for ttl. A ttl that
// means forever must not turn into none.
func listedFor(ttl time.Duration) time.Duration {
	return min(ttl, math.MaxInt64-indexGrace) + indexGrace
}

// place adds a key to where l is, if it holds what l is about. Of a value in a
// newer format only the digest is known: it counts as one of the workflow that
// lists it.
func (s *Store) place(l *life, head *redis.StringCmd, at place, index func(string) string) {
	raw, err := head.Bytes()
	held, ok := heldSum(raw)
	if err != nil || !ok || (l.pinned && held != l.want) {
		return
	}
	v, err := decodeHeader(raw)
	if err != nil {
		v = value{ttl: s.ttl, workflow: l.of}
	}
	if l.of != "" && v.workflow != l.of {
		return
	}
	if v.workflow != "" {
		at.index = index(v.workflow)
	}
	if at.ttl == 0 {
		at.ttl = v.ttl
	}
	l.places = append(l.places, at)
}

// slide extends what reads found due, each by its own time to live.
func (s *Store) slide(ctx context.Context, batch []*slide) error {
	var all []*life
	var errs []error
	for _, e := range batch {
		if e.key.metadata {
			continue
		}
		if want, pinned, err := e.key.check(); err == nil {
			all = append(all, &life{key: e.key.Key, want: want, pinned: pinned})
		}
	}
	errs = append(errs, s.extend(ctx, 0, all))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range batch {
			if e.key.metadata {
				p.Do(ctx, "pexpire", s.space.Metadata(e.key.ID), time.Duration(e.ttl.Load()).Milliseconds(), "gt")
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
