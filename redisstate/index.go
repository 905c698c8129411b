package redisstate

import (
	"context"
	"encoding/binary"
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
		x.ids = append(x.ids, w.ref.ID)
		x.ttl = max(x.ttl, w.new.ttl+indexGrace)
	}
	return all
}

// add queues the change: the life of the index is only ever extended. GT alone
// would leave a new index, which has no expiry yet, without one.
func (x *index) add(ctx context.Context, p redis.Pipeliner) {
	x.reply = p.SAdd(ctx, x.key, x.ids...)
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "nx")
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "gt")
}

// indexErrors is what Redis said about the changes to indexes.
func indexErrors(all []*index) error {
	for _, x := range all {
		if err := x.reply.Err(); err != nil {
			return err
		}
	}
	return nil
}

// prune takes ids out of a workflow's index whose config is gone. A writer may save such
// a config at the same moment, so they are looked at once more afterwards, and
// those that are there now are put back. What remains is a writer that on
// Cluster pauses between its index and its value for longer than all this takes:
// its config is then not listed until it is saved again.
//
// It is housekeeping: an error only leaves it to the next reader of the index.
func (s *Store) prune(ctx context.Context, workflow string, gone []string) {
	key := s.space.WorkflowIndex(workflow)
	for batch := range slices.Chunk(gone, maxBatch) {
		members := make([]any, len(batch))
		for i, id := range batch {
			members[i] = id
		}
		if s.client.SRem(ctx, key, members...).Err() != nil {
			return
		}
		back, _, err := s.members(ctx, workflow, batch)
		if err != nil {
			return
		}
		if len(back) == 0 {
			continue
		}
		x := index{key: key, ttl: s.ttl + indexGrace}
		for _, id := range back {
			x.ids = append(x.ids, id)
		}
		_, _ = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			x.add(ctx, p)
			return nil
		})
	}
}

// members splits ids into those whose current config is of the workflow and
// the others. It reads the head of each value only. What cannot be read counts
// as a member: Get will tell.
func (s *Store) members(ctx context.Context, workflow string, ids []string) (in, out []string, err error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	head := int64(headerBytes + 2*binary.MaxVarintLen64 + len(workflow))
	replies := make([]*redis.StringCmd, len(ids))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.GetRange(ctx, s.space.Config(id), 0, head)
		}
		return nil
	})
	if err = unlessReply(rediserr.Reason(err, cmds)); err != nil {
		return nil, nil, err
	}
	for i, id := range ids {
		raw, err := replies[i].Bytes()
		if err != nil && !rediserr.IsWrongType(err) {
			return nil, nil, err
		}
		v, unreadable := decodeHeader(raw)
		if len(raw) > 0 && (unreadable != nil || v.workflow == workflow) {
			in = append(in, id)
		} else {
			out = append(out, id)
		}
	}
	return in, out, nil
}
