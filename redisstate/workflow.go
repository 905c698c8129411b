package redisstate

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// A workflow has two indexes: the ids of its configs, and the contents of it
// that were overwritten. Both are hints: what they list may be gone or belong to
// another workflow by now.

// asideMember is how an index lists overwritten content.
func asideMember(id string, d Digest) string { return string(d) + " " + id }

// parseAside is the inverse of asideMember.
func parseAside(member string) (Key, bool) {
	d, id, ok := strings.Cut(member, " ")
	key := Key{ID: id, Digest: Digest(d)}
	if _, _, err := key.check(); err != nil {
		return Key{}, false
	}
	return key, ok
}

// asideLife is a listed content that must still be of its workflow.
func asideLife(key Key, workflow string) *life {
	want, _, _ := key.check()
	return &life{key: key, want: want, pinned: true, of: workflow}
}

// walkIndex passes on the members of an index, each once, in batches.
func (s *Store) walkIndex(ctx context.Context, index string, each func(members []string) (more bool, err error)) error {
	var seen map[string]bool
	for cursor := uint64(0); ; {
		members, next, err := s.client.SScan(ctx, index, cursor, "", scanCount).Result()
		if err != nil {
			return err
		}
		if seen == nil {
			seen = make(map[string]bool, len(members))
		}
		fresh := members[:0]
		for _, m := range members {
			if !seen[m] {
				seen[m] = true
				fresh = append(fresh, m)
			}
		}
		if more, err := each(fresh); !more || err != nil || next == 0 {
			return err
		}
		cursor = next
	}
}

// ExtendWorkflow implements Lifetimes.
func (s *Store) ExtendWorkflow(ctx context.Context, workflow string, ttl time.Duration) (int, error) {
	if err := s.checkOpen(opExtend); err != nil {
		return 0, err
	}
	if err := checkID("workflow id", workflow); err != nil {
		return 0, fail(opExtend, err)
	}
	if err := checkExtension(ttl); err != nil {
		return 0, err
	}
	found := 0
	err := s.walkIndex(ctx, s.space.WorkflowIndex(workflow), func(ids []string) (bool, error) {
		all := make([]*life, len(ids))
		for i, id := range ids {
			all[i] = &life{key: ID(id), of: workflow}
		}
		err := s.extend(ctx, ttl, all)
		for _, l := range all {
			found += min(len(l.places), 1)
		}
		return true, err
	})
	if err != nil {
		return found, redisError(ctx, opExtend, err)
	}
	return found, redisError(ctx, opExtend, s.extendAsides(ctx, workflow, ttl))
}

// extendAsides extends the overwritten contents of a workflow and prunes their
// index.
func (s *Store) extendAsides(ctx context.Context, workflow string, ttl time.Duration) error {
	index := s.space.WorkflowAsideIndex(workflow)
	var gone []string
	err := s.walkIndex(ctx, index, func(members []string) (bool, error) {
		var all []*life
		for _, m := range members {
			key, ok := parseAside(m)
			if !ok {
				continue
			}
			all = append(all, asideLife(key, workflow))
		}
		err := s.extend(ctx, ttl, all)
		for _, l := range all {
			if len(l.places) == 0 {
				gone = append(gone, asideMember(l.key.ID, l.key.Digest))
			}
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return s.pruneAsides(ctx, index, gone)
}

// DeleteWorkflow implements Lifetimes. It is no transaction. What a writer saves
// for the workflow at the same moment stays listed if it stays. A config that a
// writer moves to another workflow just then may be removed with the others:
// its writer is told nothing, and a reader gets ErrNotFound. A config that this
// release cannot read stays, since its workflow is unknown. Overwritten content
// that a release before this one put aside is not listed anywhere and expires by
// itself.
func (s *Store) DeleteWorkflow(ctx context.Context, workflow string) (int, error) {
	if err := s.checkOpen(opDelete); err != nil {
		return 0, err
	}
	if err := checkID("workflow id", workflow); err != nil {
		return 0, fail(opDelete, err)
	}
	removed := 0
	var ids, asides []string
	err := s.walkIndex(ctx, s.space.WorkflowIndex(workflow), func(listed []string) (bool, error) {
		ids = append(ids, listed...)
		found, err := s.members(ctx, workflow, listed)
		if err != nil {
			return false, err
		}
		names := make([]string, len(found.in))
		for i, id := range found.in {
			s.near.drop(id)
			names[i] = s.space.Config(id)
		}
		n, err := s.deleteAll(ctx, names)
		removed += n
		return true, err
	})
	if err != nil {
		return removed, redisError(ctx, opDelete, err)
	}
	err = s.walkIndex(ctx, s.space.WorkflowAsideIndex(workflow), func(listed []string) (bool, error) {
		asides = append(asides, listed...)
		return true, s.deleteAsides(ctx, workflow, listed)
	})
	if err == nil {
		err = s.prune(ctx, workflow, ids)
	}
	if err == nil {
		err = s.pruneAsides(ctx, s.space.WorkflowAsideIndex(workflow), asides)
	}
	return removed, redisError(ctx, opDelete, err)
}

// deleteAsides removes overwritten contents of a workflow.
func (s *Store) deleteAsides(ctx context.Context, workflow string, listed []string) error {
	var all []*life
	for _, m := range listed {
		if key, ok := parseAside(m); ok {
			all = append(all, asideLife(key, workflow))
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := s.locate(ctx, 0, all); err != nil {
		return err
	}
	var names []string
	for _, l := range all {
		s.near.drop(l.key.ID)
		for _, at := range l.places {
			if at.name == s.aside(l.key.ID, l.want) { // the current content was dealt with
				names = append(names, at.name)
			}
		}
	}
	_, err := s.deleteAll(ctx, names)
	return err
}

// deleteAll removes keys in pipelines and tells how many there were.
func (s *Store) deleteAll(ctx context.Context, names []string) (int, error) {
	removed := 0
	for len(names) > 0 {
		batch := names[:min(len(names), maxBatch)]
		names = names[len(batch):]
		replies := make([]*redis.IntCmd, len(batch))
		cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range batch {
				replies[i] = p.Del(ctx, name)
			}
			return nil
		})
		for _, reply := range replies {
			removed += int(reply.Val())
		}
		if err = rediserr.Reason(err, cmds); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// Count implements Lifetimes.
func (s *Store) Count(ctx context.Context, scope Scope) (int, error) {
	n := 0
	for _, err := range s.Scan(ctx, scope) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
