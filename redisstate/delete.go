package redisstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Delete implements ConfigStore. It takes two round trips for keys without
// digest, and three for each key with one. A Redis that is out of memory removes
// by id; with a digest, what is current is compared in a transaction, which it
// refuses (ErrUnavailable).
func (s *Store) Delete(ctx context.Context, keys ...Key) (int, error) {
	if err := s.checkOpen(opDelete); err != nil {
		return 0, err
	}
	var errs []error
	sums := make([]sum, len(keys))
	for i, key := range keys {
		want, _, err := key.check()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): key %d of %d: %w", opDelete, family, i+1, len(keys), err))
		}
		sums[i] = want
	}
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	gone, err := s.deleteNamed(ctx, keys, sums)
	for i := 0; i < len(keys) && err == nil; i++ {
		if keys[i].Digest == "" {
			continue
		}
		var was bool
		was, err = s.deleteIf(ctx, keys[i].ID, sums[i])
		gone[i] = gone[i] || was
	}
	removed := 0
	for i, was := range gone {
		s.near.drop(keys[i].ID)
		if was {
			removed++
		}
	}
	return removed, redisError(ctx, opDelete, err)
}

// deleteNamed removes current contents of keys without digest and put-aside
// contents of keys with one, and tells which were there.
func (s *Store) deleteNamed(ctx context.Context, keys []Key, sums []sum) (gone []bool, err error) {
	gone = make([]bool, len(keys))
	var ids, asides []string
	var idAt, asideAt []int
	for i, key := range keys {
		if key.Digest == "" {
			ids, idAt = append(ids, key.ID), append(idAt, i)
		} else {
			asides, asideAt = append(asides, s.aside(key.ID, sums[i])), append(asideAt, i)
		}
	}
	was, err := s.deleteAll(ctx, asides)
	for i, at := range asideAt {
		gone[at] = was[i]
	}
	if err != nil {
		return gone, err
	}
	was, err = s.deleteCurrent(ctx, ids)
	for i, at := range idAt {
		gone[at] = was[i]
	}
	return gone, err
}

// deleteCurrent removes the current contents of ids.
func (s *Store) deleteCurrent(ctx context.Context, ids []string) (gone []bool, err error) {
	gone = make([]bool, len(ids))
	for start := 0; start < len(ids); start += maxBatch {
		batch := ids[start:min(start+maxBatch, len(ids))]
		of := make([]string, len(batch))
		if s.ordered { // else the indexes come last
			if of, err = s.workflows(ctx, batch); err != nil {
				return gone, err
			}
		}
		was, err := s.removeListed(ctx, batch, func(i int) string { return of[i] })
		copy(gone[start:], was)
		if err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// workflows are those that the current contents of ids are of, as far as can be
// told.
func (s *Store) workflows(ctx context.Context, ids []string) ([]string, error) {
	heads := make([]*redis.StringCmd, len(ids))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			heads[i] = p.GetRange(ctx, s.space.Config(id), 0, headBytes-1)
		}
		return nil
	})
	of := make([]string, len(ids))
	for i, head := range heads {
		of[i] = workflowOf(head)
	}
	return of, unlessReply(err, cmds)
}

// workflowOf reads from the head of a stored value of which workflow it is.
func workflowOf(head *redis.StringCmd) string {
	raw, _ := head.Bytes()
	v, err := decodeHeader(raw)
	if err != nil {
		return ""
	}
	return v.workflow
}

// removeListed removes the current contents of ids and tells which were there.
// On one server the index of the workflow that each is said to be of loses it in
// the same transaction, and what turns out to be of another is taken out of its
// index afterwards. On Cluster each is a transaction of its own, and nobody trusts
// the indexes: they are tidied later.
func (s *Store) removeListed(ctx context.Context, ids []string, of func(i int) string) (gone []bool, err error) {
	gone = make([]bool, len(ids))
	if len(ids) == 0 {
		return gone, nil
	}
	heads, replies := make([]*redis.StringCmd, len(ids)), make([]*redis.IntCmd, len(ids))
	listed := make(map[string][]any)
	for i, id := range ids {
		if workflow := of(i); s.ordered && workflow != "" {
			listed[workflow] = append(listed[workflow], id)
		}
	}
	one := func(p redis.Pipeliner, i int) *redis.IntCmd {
		name := s.space.Config(ids[i])
		heads[i], replies[i] = p.GetRange(ctx, name, 0, headBytes-1), p.Del(ctx, name)
		return s.bells.ring(ctx, p, ids[i])
	}
	if s.ordered {
		err = s.removing(ctx, func(p redis.Pipeliner) (rung []*redis.IntCmd) {
			for i := range ids {
				rung = append(rung, one(p, i))
			}
			for workflow, members := range listed {
				p.ZRem(ctx, s.space.WorkflowIndex(workflow), members...)
			}
			return rung
		})
	} else {
		err = inParallel(len(ids), parallelWrites, allErrors, func(i int) error {
			return s.removing(ctx, func(p redis.Pipeliner) []*redis.IntCmd { return []*redis.IntCmd{one(p, i)} })
		})
	}
	s.current.forget(ids...)
	left := make(map[string][]string)
	for i, id := range ids {
		gone[i] = replies[i].Val() > 0
		if was := workflowOf(heads[i]); gone[i] && was != "" && s.ordered && was != of(i) {
			left[was] = append(left[was], id)
		}
		if err == nil { // the first error may be that of a look only
			err = replies[i].Err()
		}
	}
	if err != nil {
		return gone, err
	}
	for workflow, ids := range left {
		if err := s.prune(ctx, workflow, ids); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// removing makes a transaction that deletes configs and rings for them. If bells
// are refused, it is made without.
func (s *Store) removing(ctx context.Context, queue func(p redis.Pipeliner) (rung []*redis.IntCmd)) error {
	for {
		var rung []*redis.IntCmd
		commands := func(p redis.Pipeliner) error { rung = queue(p); return nil }
		cmds, err := s.client.TxPipelined(ctx, commands)
		if s.bells.refused(ctx, cmds, rung) {
			continue
		}
		if redis.IsExecAbortError(err) {
			// Redis without memory refuses every transaction, but not these commands.
			cmds, err = s.client.Pipelined(ctx, commands)
		}
		return unlessReply(err, cmds)
	}
}

// deleteAll removes keys in pipelines and tells which were there.
func (s *Store) deleteAll(ctx context.Context, names []string) (gone []bool, err error) {
	gone = make([]bool, len(names))
	for start := 0; start < len(names); start += maxBatch {
		batch := names[start:min(start+maxBatch, len(names))]
		replies := make([]*redis.IntCmd, len(batch))
		cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range batch {
				replies[i] = p.Del(ctx, name)
			}
			return nil
		})
		for i, reply := range replies {
			gone[start+i] = reply.Val() > 0
		}
		if err = rediserr.Reason(err, cmds); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// deleteTries bounds how often deleteIf meets a writer of the same id.
const deleteTries = 16

// deleteIf removes the current content of an id if it is the given one, and
// tells whether it was. WATCH makes the comparison and the removal one.
func (s *Store) deleteIf(ctx context.Context, id string, content sum) (was bool, err error) {
	name, of := s.space.Config(id), ""
	for range deleteTries {
		err = s.client.Watch(ctx, func(tx *redis.Tx) error {
			was = false
			head := tx.GetRange(ctx, name, 0, headBytes-1)
			raw, err := head.Bytes()
			if err != nil {
				return err
			}
			if held, ok := heldSum(raw); !ok || held != content {
				return nil
			}
			of = workflowOf(head)
			var reply, bell *redis.IntCmd
			cmds, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				reply, bell = p.Del(ctx, name), s.bells.ring(ctx, p, id)
				if s.ordered && of != "" {
					p.ZRem(ctx, s.space.WorkflowIndex(of), id)
				}
				return nil
			})
			if s.bells.refused(ctx, cmds, []*redis.IntCmd{bell}) {
				return redis.TxFailedErr // nothing was done: once more, without
			}
			was = reply.Val() > 0
			return err
		}, name)
		s.current.forget(id)
		switch {
		case errors.Is(err, redis.TxFailedErr):
			continue // someone wrote it meanwhile: look again
		case rediserr.IsWrongType(err):
			return was, nil
		}
		return was, err
	}
	return false, err
}
