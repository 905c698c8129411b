package redisstate

import (
	"context"
	"strings"
	"time"
)

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
	err := s.walkIndex(ctx, s.space.WorkflowIndex(workflow), func(page indexPage) (bool, error) {
		ids := page.all()
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
	err := s.walkIndex(ctx, index, func(page indexPage) (bool, error) {
		var all []*life
		for _, m := range page.all() {
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
	var out, asides []string
	err := s.walkIndex(ctx, s.space.WorkflowIndex(workflow), func(page indexPage) (bool, error) {
		found, err := s.members(ctx, workflow, page.all())
		if err != nil {
			return false, err
		}
		out = append(out, found.out...)
		gone, err := s.removeListed(ctx, found.in, func(int) string { return workflow })
		for i, was := range gone {
			s.near.drop(found.in[i])
			if was {
				removed++
			}
		}
		return true, err
	})
	if err != nil {
		return removed, redisError(ctx, opDelete, err)
	}
	err = s.walkIndex(ctx, s.space.WorkflowAsideIndex(workflow), func(page indexPage) (bool, error) {
		listed := page.all()
		asides = append(asides, listed...)
		return true, s.deleteAsides(ctx, workflow, listed)
	})
	if err == nil {
		err = s.prune(ctx, workflow, out)
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
