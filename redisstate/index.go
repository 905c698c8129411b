package redisstate

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// index is what a batch adds to the ids of one workflow.
type index struct {
	key string
	ids []any
	ttl time.Duration

	reply *redis.IntCmd
}

// indexGrace is how much longer an index lives than what it lists.
const indexGrace = time.Second

// indexes are the changes to the workflows' indexes that a batch needs, one per
// workflow.
func (s *Store) indexes(batch []*writing) []*index {
	var all []*index
	byWorkflow := make(map[string]*index, 1)
	for _, w := range batch {
		if w.new.workflow == "" {
			continue
		}
		x, known := byWorkflow[w.new.workflow]
		if !known {
			x = &index{key: s.space.WorkflowIndex(w.new.workflow)}
			byWorkflow[w.new.workflow] = x
			all = append(all, x)
		}
		w.index = x
		x.ids = append(x.ids, w.ref.ID)
		x.ttl = max(x.ttl, listedFor(w.new.ttl))
	}
	return all
}

// add queues the change: the life of the index is only ever extended. GT alone
// would leave a new index, which has no expiry yet, without one.
func (x *index) add(ctx context.Context, p redis.Pipeliner) {
	if x == nil {
		return
	}
	x.reply = p.SAdd(ctx, x.key, x.ids...)
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "nx")
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "gt")
}

// indexErrors is what Redis said about the changes to the indexes of a batch.
func indexErrors(batch []*writing) error {
	for _, w := range batch {
		if w.index == nil {
			continue
		}
		if err := w.index.reply.Err(); err != nil {
			return err
		}
	}
	return nil
}

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
		members := make([]any, len(batch))
		for i, m := range batch {
			members[i] = m
		}
		var left *redis.DurationCmd // of the index; an empty one is gone afterwards
		_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			left = p.PTTL(ctx, name)
			p.SRem(ctx, name, members...)
			return nil
		})
		if err != nil {
			return err
		}
		back, err := there(batch)
		if err != nil {
			back = batch
		}
		if len(back) > 0 {
			x := index{key: name, ttl: max(left.Val(), listedFor(s.ttl))}
			for _, m := range back {
				x.ids = append(x.ids, m)
			}
			err = errors.Join(err, s.putBack(ctx, x))
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// membership is what became of the ids that a workflow's index lists.
type membership struct {
	in      []string // their current config is of the workflow
	unknown []string // it cannot be read here: Get will tell
	out     []string // it is gone, or another workflow's
}

// listed are the ids that Scan lists.
func (m membership) listed() []string { return append(m.in, m.unknown...) }

// members looks what became of ids. It reads the head of each value only.
func (s *Store) members(ctx context.Context, workflow string, ids []string) (found membership, err error) {
	if len(ids) == 0 {
		return membership{}, nil
	}
	// Boxed once: a pipeline of many small commands is mostly allocations.
	var start, end any = 0, headerBytes + 2*binary.MaxVarintLen64 + len(workflow)
	replies := make([]*redis.StringCmd, len(ids))
	queue := make([]redis.Cmder, len(ids))
	args := make([]any, 0, 4*len(ids))
	for i, id := range ids {
		args = append(args, "getrange", s.space.Config(id), start, end)
		replies[i] = redis.NewStringCmd(ctx, args[4*i:4*i+4:4*i+4]...)
		queue[i] = replies[i]
	}
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.BatchProcess(ctx, queue...) })
	if err = unlessReply(rediserr.Reason(err, cmds)); err != nil {
		return membership{}, err
	}
	found.in = make([]string, 0, len(ids))
	for i, id := range ids {
		raw, err := replies[i].Bytes()
		if err != nil && !rediserr.IsWrongType(err) {
			return membership{}, err
		}
		v, unreadable := decodeHeader(raw)
		switch {
		case len(raw) == 0 || (unreadable == nil && v.workflow != workflow):
			found.out = append(found.out, id)
		case unreadable != nil:
			found.unknown = append(found.unknown, id)
		default:
			found.in = append(found.in, id)
		}
	}
	return found, nil
}
