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
// stored there, unless its encryption is not that of today or it has come to another
// workflow since. What is listed goes along.
func (s *Store) putAside(ctx context.Context, batch []*writing, inherit bool, listed ...*index) error {
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		addAll(ctx, p, listed)
		for _, w := range batch {
			if w.kept != nil {
				s.lookAside(ctx, p, w)
				s.queueAside(ctx, p, w, w.old.ttl)
				w.left = p.PTTL(ctx, w.key)
			}
		}
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return err
	}
	if err := s.mendAsides(ctx, s.client, batch); err != nil || !inherit {
		return err
	}
	return s.inherit(ctx, batch)
}

// lookAside reads how a content is encrypted that may be aside already, and whose it is.
func (s *Store) lookAside(ctx context.Context, p redis.Pipeliner, w *writing) {
	w.aside = p.GetRange(ctx, s.aside(w.ref.ID, w.old.sum), 0, int64(headBytes+maxSealBytes-1))
}

// queueAside puts a content aside, for life or for as long as it lives there already.
func (s *Store) queueAside(ctx context.Context, p redis.Pipeliner, w *writing, life time.Duration) *index {
	key, ms := s.aside(w.ref.ID, w.old.sum), life.Milliseconds()
	p.Do(ctx, "set", key, w.kept, "px", ms, "nx")
	p.Do(ctx, "pexpire", key, ms, "gt")
	x := s.listAside(w, life)
	x.add(ctx, p)
	return x
}

// mendAsides writes contents anew that were aside already: those of another workflow than
// the one that they come from now, which may be deleted with all that it has; and those
// that are stored under a key that may be taken away, or under none. What else is stored
// with them stays if it is to be believed. Their lives stay. A writer without a key
// encrypts nothing, and takes no encryption off.
func (s *Store) mendAsides(ctx context.Context, on pipelines, batch []*writing) error {
	var all []*writing
	for _, w := range batch {
		if w.kept == nil || w.aside == nil || w.stale {
			continue
		}
		raw, _ := w.aside.Bytes()
		v, err := decodeHeader(raw)
		if err != nil || (w.envelope.keys.newest() == nil && raw[flagsAt]&flagSealed != 0) {
			continue
		}
		if v.workflow != w.old.workflow || !w.envelope.current(v.head, v.body) {
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return nil
	}
	whole := make([]*redis.StringCmd, len(all))
	cmds, err := on.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range all {
			whole[i] = p.Get(ctx, s.aside(w.ref.ID, w.old.sum))
		}
		return nil
	})
	if err = unlessReply(err, cmds); err != nil {
		return err
	}
	cmds, err = on.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range all {
			raw, _ := whole[i].Bytes()
			p.Do(ctx, "set", s.aside(w.ref.ID, w.old.sum), w.believed(raw).encode(w.envelope, w.ref.ID), "xx", "keepttl")
		}
		return nil
	})
	return rediserr.Reason(err, cmds) // which leaves out what was removed meanwhile
}

// believed is old with the longer time to live of it and of what was stored aside of it,
// if one of our keys proves that, or we have none: what is in clear may be anybody's, also
// where readers still take that.
func (w *writing) believed(raw []byte) value {
	strict := w.envelope
	strict.required = strict.keys.newest() != nil
	v, err := decodeHeader(raw)
	if err == nil {
		err = v.unlock(strict, w.ref.ID)
	}
	if err == nil {
		err = v.unpack(strict)
	}
	believed := w.old
	if err == nil && sameContent(v, w.old) {
		believed.ttl = max(v.ttl, w.old.ttl)
	}
	return believed
}

// listAside is the entry of overwritten content in its workflow's index; nil if
// it has no workflow.
func (s *Store) listAside(w *writing, life time.Duration) *index {
	if w.old.workflow == "" {
		return nil
	}
	x := &index{key: s.space.WorkflowAsideIndex(w.old.workflow)}
	x.list(asideMember(w.ref.ID, w.old.sum.digest()), s.now(), life)
	return x
}

// inherit gives contents that were put aside what they had left to live, where
// that is more than their own time to live: somebody extended it.
func (s *Store) inherit(ctx context.Context, batch []*writing) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, w := range batch {
			if w.kept == nil || w.left.Val() <= w.old.ttl {
				continue
			}
			if x := s.listAside(w, w.left.Val()); x != nil {
				x.extend(ctx, p, true)
			}
			p.Do(ctx, "pexpire", s.aside(w.ref.ID, w.old.sum), w.left.Val().Milliseconds(), "gt")
		}
		return nil
	})
	return err
}

// overwrite replaces the contents, each after it was put aside. What it replaced is
// looked at again: where nothing guards it, another writer may have been faster.
func (s *Store) overwrite(ctx context.Context, batch []*writing) error {
	swap := s.swapEach
	if s.ordered {
		swap = s.swap
	}
	if err := swap(ctx, batch); err != nil {
		return err
	}
	if err := s.listLonger(ctx, batch); err != nil {
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

// relisted are the changes to the workflows' indexes that a batch needs which writes
// over others. The lives of what is replaced may be shorter.
func (s *Store) relisted(batch []*writing) []*index {
	var same, others []*writing
	for _, w := range batch {
		if w.same {
			same = append(same, w)
		} else {
			others = append(others, w)
		}
	}
	listed := s.indexes(others)
	for _, x := range listed {
		x.exact = true
	}
	return append(listed, s.indexes(same)...)
}

// pipelines is what sends commands together: a client, or one connection of it.
type pipelines interface {
	Pipelined(ctx context.Context, queue func(redis.Pipeliner) error) ([]redis.Cmder, error)
	TxPipelined(ctx context.Context, queue func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// replace writes over what is there in one transaction, with the bells, and with what
// comes before: contents that are put aside, and listings. If bells are refused,
// nothing was done (errRefused).
func (s *Store) replace(ctx context.Context, on pipelines, batch []*writing, first func(p redis.Pipeliner)) error {
	var rung []*redis.IntCmd
	cmds, err := on.TxPipelined(ctx, func(p redis.Pipeliner) error {
		first(p)
		for _, w := range batch {
			s.queueOver(ctx, p, w)
			s.leave(ctx, p, w)
			rung = append(rung, s.bells.ring(ctx, p, w.ref.ID))
		}
		return nil
	})
	for _, w := range batch { // also if it failed: it may have been executed
		s.current.forget(w.ref.ID)
	}
	if s.bells.refused(ctx, cmds, rung) {
		return errRefused
	}
	return unlessReply(err, cmds)
}

// errRefused says that bells are rung no more, and the transaction is to be made again.
var errRefused = errors.New("bells were refused")

// queueOver writes a value over what is there. Of the same content what is stored with
// it changes, and its life only to a longer one: Extend may have given it more than the
// time to live stored with it. It is in a transaction, or a lost connection could leave
// it without an expiry.
func (s *Store) queueOver(ctx context.Context, p redis.Pipeliner, w *writing) {
	ttl := w.new.ttl.Milliseconds()
	if !w.same {
		w.reply = redis.NewStringCmd(ctx, "set", w.key, w.raw, "px", ttl, "get")
		_ = p.Process(ctx, w.reply)
		return
	}
	w.reply = redis.NewStringCmd(ctx, "set", w.key, w.raw, "get", "keepttl")
	_ = p.Process(ctx, w.reply)
	p.Do(ctx, "pexpire", w.key, ttl, "nx")
	p.Do(ctx, "pexpire", w.key, ttl, "gt")
	w.left = p.PTTL(ctx, w.key)
}

// listLonger lets indexes live as long as contents whose life is longer than the time to
// live stored with them. Only the indexes: by now somebody may have given the contents a
// shorter life.
func (s *Store) listLonger(ctx context.Context, batch []*writing) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, w := range batch {
			if w.same && w.new.workflow != "" && w.left.Val() > w.new.ttl {
				p.Do(ctx, "pexpire", s.space.WorkflowIndex(w.new.workflow), listedFor(w.left.Val()).Milliseconds(), "gt")
			}
		}
		return nil
	})
	return err
}

func addAll(ctx context.Context, p redis.Pipeliner, all []*index) {
	for _, x := range all {
		x.add(ctx, p)
	}
}
