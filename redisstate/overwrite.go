package redisstate

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// putAside keeps the contents about to be overwritten where their refs find
// them, for their own time to live, and lists them for their workflows. With
// inherit, a content whose life was extended past that keeps what it has left.
// Writing it twice is harmless. A content that is aside already stays as it is
// stored there, unless its encryption is not that of today.
func (s *Store) putAside(ctx context.Context, batch []*writing, inherit bool) error {
	var kept []*writing
	for _, w := range batch {
		if w.kept != nil {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	left, held := make([]*redis.DurationCmd, len(kept)), make([]*redis.StringCmd, len(kept))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range kept {
			key, ttl := s.aside(w.ref.ID, w.old.sum), w.old.ttl.Milliseconds()
			if w.envelope.keys.newest() != nil {
				held[i] = p.GetRange(ctx, key, 0, int64(headBytes+maxSealBytes-1))
			}
			p.Do(ctx, "set", key, w.kept, "px", ttl, "nx")
			p.Do(ctx, "pexpire", key, ttl, "gt")
			s.listAside(w).add(ctx, p)
			left[i] = p.PTTL(ctx, w.key)
		}
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return err
	}
	if err := s.sealAgain(ctx, kept, held); err != nil || !inherit {
		return err
	}
	return s.inherit(ctx, kept, left)
}

// sealAgain encrypts contents that were aside already, under a key that may be taken
// away or under none, as they would be now. What else is stored with them stays if a
// key proves it, and their lives stay. A writer without a key encrypts nothing, and
// takes no encryption off.
func (s *Store) sealAgain(ctx context.Context, kept []*writing, held []*redis.StringCmd) error {
	var old []*writing
	for i, w := range kept {
		if held[i] == nil || w.stale {
			continue
		}
		raw, _ := held[i].Bytes()
		if v, err := decodeHeader(raw); err == nil && !w.envelope.current(v.head, v.body) {
			old = append(old, w)
		}
	}
	if len(old) == 0 {
		return nil
	}
	whole := make([]*redis.StringCmd, len(old))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range old {
			whole[i] = p.Get(ctx, s.aside(w.ref.ID, w.old.sum))
		}
		return nil
	})
	if err = unlessReply(err, cmds); err != nil {
		return err
	}
	cmds, err = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range old {
			raw, _ := whole[i].Bytes()
			p.Do(ctx, "set", s.aside(w.ref.ID, w.old.sum), w.believed(raw).encode(w.envelope, w.ref.ID), "xx", "keepttl")
		}
		return nil
	})
	return rediserr.Reason(err, cmds) // which leaves out what was removed meanwhile
}

// believed is what was stored aside of old if one of our keys proves it, else old itself:
// what is in clear may be anybody's, also where readers still take that.
func (w *writing) believed(raw []byte) value {
	strict := w.envelope
	strict.required = true
	v, err := decodeHeader(raw)
	if err == nil {
		err = v.unlock(strict, w.ref.ID)
	}
	if err == nil {
		err = v.unpack(strict)
	}
	if err != nil || !sameContent(v, w.old) {
		return w.old
	}
	return v
}

// listAside is the entry of overwritten content in its workflow's index; nil if
// it has no workflow.
func (s *Store) listAside(w *writing) *index {
	if w.old.workflow == "" {
		return nil
	}
	x := &index{key: s.space.WorkflowAsideIndex(w.old.workflow)}
	x.list(asideMember(w.ref.ID, w.old.sum.digest()), s.now(), w.old.ttl)
	return x
}

// inherit gives contents that were put aside what they had left to live, where
// that is more than their own time to live: somebody extended it.
func (s *Store) inherit(ctx context.Context, kept []*writing, left []*redis.DurationCmd) error {
	longer := make(map[*writing]time.Duration)
	for i, w := range kept {
		if life := left[i].Val(); life > w.old.ttl {
			longer[w] = life
		}
	}
	if len(longer) == 0 {
		return nil
	}
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for w, life := range longer {
			if x := s.listAside(w); x != nil {
				x.list(asideMember(w.ref.ID, w.old.sum.digest()), s.now(), life)
				x.extend(ctx, p, true)
			}
			p.Do(ctx, "pexpire", s.aside(w.ref.ID, w.old.sum), life.Milliseconds(), "gt")
		}
		return nil
	})
	return err
}

// overwrite replaces the contents. What it replaced is looked at again, since
// another writer may have been faster.
func (s *Store) overwrite(ctx context.Context, batch []*writing) error {
	var others []*writing
	for _, w := range batch {
		if !w.same {
			others = append(others, w)
		} else if err := s.rewrite(ctx, w); err != nil {
			return err
		}
	}
	if err := s.replace(ctx, others); err != nil {
		return err
	}
	var late []*writing
	for _, w := range batch {
		raw, err := w.reply.Bytes()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		replaced, stale, ours := w.examine(raw)
		if of := replaced.workflow; of != "" && of != w.new.workflow && (!s.ordered || of != w.old.workflow) {
			if err := s.prune(ctx, of, []string{w.ref.ID}); err != nil {
				return err
			}
		}
		if !ours || sameContent(replaced, w.new) || (w.kept != nil && sameContent(replaced, w.old)) {
			continue
		}
		w.old, w.stale, w.kept = replaced, stale, raw
		late = append(late, w)
	}
	return s.putAside(ctx, late, false)
}

// replace writes values over those that are there. Their lives may be shorter. On
// Cluster each is a transaction of its own, with its bell.
func (s *Store) replace(ctx context.Context, batch []*writing) error {
	if len(batch) == 0 {
		return nil
	}
	listed := s.indexes(batch) // with the life that conflicts found
	for _, x := range listed {
		x.exact = true
	}
	if s.ordered {
		return s.replaceAll(ctx, listed, batch)
	}
	if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { addAll(ctx, p, listed); return nil }); err != nil {
		return err
	}
	return inParallel(len(batch), parallelWrites, allErrors, func(i int) error { return s.replaceAll(ctx, nil, batch[i:i+1]) })
}

// parallelWrites bounds the transactions of one call on Cluster.
const parallelWrites = 8

func (s *Store) replaceAll(ctx context.Context, listed []*index, batch []*writing) error {
	return s.ringing(ctx, batch, func(bell func(p redis.Pipeliner, w *writing)) ([]redis.Cmder, error) {
		return s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			addAll(ctx, p, listed)
			for _, w := range batch {
				w.reply = redis.NewStringCmd(ctx, "set", w.key, w.raw, "px", w.new.ttl.Milliseconds(), "get")
				_ = p.Process(ctx, w.reply)
				s.leave(ctx, p, w)
				bell(p, w)
			}
			return nil
		})
	})
}

// ringing makes a transaction that writes over configs and rings for them. If
// bells are refused, it is made without.
func (s *Store) ringing(ctx context.Context, batch []*writing, do func(bell func(redis.Pipeliner, *writing)) ([]redis.Cmder, error)) error {
	for {
		var rung []*redis.IntCmd
		cmds, err := do(func(p redis.Pipeliner, w *writing) { rung = append(rung, s.bells.ring(ctx, p, w.ref.ID)) })
		for _, w := range batch { // also if it failed: it may have been executed
			s.current.forget(w.ref.ID)
		}
		if !s.bells.refused(ctx, cmds, rung) {
			return unlessReply(err, cmds)
		}
	}
}

// rewrite changes what is stored with a content, and its life only to a longer
// one: Extend may have given it more than the time to live stored with it. All
// in one transaction, or a lost connection could leave it without an expiry.
func (s *Store) rewrite(ctx context.Context, w *writing) error {
	listed := s.indexes([]*writing{w})
	if !s.ordered {
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { addAll(ctx, p, listed); return nil })
		if err != nil {
			return err
		}
		listed = nil
	}
	var left *redis.DurationCmd
	ttl := w.new.ttl.Milliseconds()
	err := s.ringing(ctx, []*writing{w}, func(bell func(redis.Pipeliner, *writing)) ([]redis.Cmder, error) {
		return s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			addAll(ctx, p, listed)
			w.reply = redis.NewStringCmd(ctx, "set", w.key, w.raw, "get", "keepttl")
			_ = p.Process(ctx, w.reply)
			s.leave(ctx, p, w)
			p.Do(ctx, "pexpire", w.key, ttl, "nx")
			p.Do(ctx, "pexpire", w.key, ttl, "gt")
			left = p.PTTL(ctx, w.key)
			bell(p, w)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if life := left.Val(); life > w.new.ttl && w.new.workflow != "" {
		// Only the index: by now somebody may have given the config a shorter life.
		err = s.client.Do(ctx, "pexpire", s.space.WorkflowIndex(w.new.workflow), listedFor(life).Milliseconds(), "gt").Err()
	}
	return err
}

func addAll(ctx context.Context, p redis.Pipeliner, all []*index) {
	for _, x := range all {
		x.add(ctx, p)
	}
}
