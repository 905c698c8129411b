package redisstate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// prune takes ids out of a workflow's index whose config is gone. A writer may save such
// a config at the same moment, so they are looked at once more afterwards, and
// those that are there now are put back; all of them when the look fails. Two
// things remain, after which a config is not listed until it is saved again: a
// writer that on Cluster pauses between its index and its value for longer than
// all this takes, and a Redis that goes away right after it took the ids out and
// stays away for longer than putting back is tried.
func (s *Store) prune(ctx context.Context, workflow string, gone []string) error {
	return s.pruneIndex(ctx, s.space.WorkflowIndex(workflow), gone, func(ids []string) ([]string, error) {
		found, err := s.members(ctx, workflow, ids)
		return found.listed(), err
	})
}

// pruneAsides does the same for an index of overwritten contents.
func (s *Store) pruneAsides(ctx context.Context, index string, gone []string) error {
	return s.pruneIndex(ctx, index, gone, func(members []string) ([]string, error) {
		var listed []string
		var replies []*redis.IntCmd
		if len(members) == 0 {
			return nil, nil
		}
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, m := range members {
				if key, ok := parseAside(m); ok {
					listed = append(listed, m)
					replies = append(replies, p.Exists(ctx, s.space.ConfigAt(key.ID, string(key.Digest))))
				}
			}
			return nil
		})
		var back []string
		for i, reply := range replies {
			if reply.Val() > 0 {
				back = append(back, listed[i])
			}
		}
		return back, err
	})
}

// pruneIndex takes members out of an index and puts those back that there tells
// are in use.
func (s *Store) pruneIndex(ctx context.Context, name string, gone []string, there func([]string) ([]string, error)) error {
	for batch := range slices.Chunk(gone, maxBatch) {
		batch, err := s.stillGone(batch, there)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		members := make([]any, len(batch))
		for i, m := range batch {
			members[i] = m
		}
		var left *redis.DurationCmd // of the index; an empty one is gone afterwards
		commands := func(p redis.Pipeliner) error {
			left = p.PTTL(ctx, name)
			p.ZRem(ctx, name, members...)
			return nil
		}
		cmds, err := s.client.TxPipelined(ctx, commands)
		if redis.IsExecAbortError(err) { // as in removing
			cmds, err = s.client.Pipelined(ctx, commands)
		}
		if err = rediserr.Reason(err, cmds); err != nil {
			return err
		}
		back, err := there(batch)
		if err != nil {
			back = batch
		}
		if len(back) > 0 {
			x := index{key: name, ttl: max(left.Val(), listedFor(s.ttl))}
			for _, m := range back {
				x.list(m, s.now(), 0) // how long is not known here
			}
			err = errors.Join(err, s.putBack(ctx, x))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stillGone leaves out what is there by now: it may be long since somebody looked.
func (s *Store) stillGone(members []string, there func([]string) ([]string, error)) ([]string, error) {
	back, err := there(members)
	if err != nil || len(back) == 0 {
		return members, err
	}
	return slices.DeleteFunc(slices.Clone(members), func(m string) bool { return slices.Contains(back, m) }), nil
}

// tidyFor looks, at one save in a while, whether the indexes of a batch list what
// was to end long ago: else the index of a workflow that lives for ever, and is
// never scanned, would grow. What lives all the same stays.
func (s *Store) tidyFor(ctx context.Context, batch []*writing) {
	seen := make(map[string]bool, 1)
	for _, w := range batch {
		workflow := w.new.workflow
		if workflow == "" || seen[workflow] {
			continue
		}
		seen[workflow] = true
		if !s.tidies() {
			continue
		}
		// Errors are left to the next one.
		_ = s.prune(ctx, workflow, s.overdue(ctx, s.space.WorkflowIndex(workflow)))
		asides := s.space.WorkflowAsideIndex(workflow)
		_ = s.pruneAsides(ctx, asides, s.overdue(ctx, asides))
	}
}

// overdue is what an index still lists tidyAfter it was to end.
func (s *Store) overdue(ctx context.Context, index string) []string {
	by := &redis.ZRangeBy{Min: "-inf", Max: score(s.now().Add(-tidyAfter)), Count: maxBatch}
	return s.client.ZRangeByScore(ctx, index, by).Val()
}

// putBackTimeout and putBackPause bound how long and how often putBack tries.
const (
	putBackTimeout = 3 * time.Second
	putBackPause   = 100 * time.Millisecond
)

// putBack lists again what was taken out, also for a caller who gave up.
func (s *Store) putBack(ctx context.Context, x index) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTimeout)
	defer cancel()
	for {
		_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error { x.add(ctx, p); return nil })
		if rediserr.Classify(ctx, err) != rediserr.Unavailable {
			return err
		}
		pause := time.NewTimer(putBackPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}
