package redisstate

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A workflow has two indexes: the ids of its configs, and the contents of it
// that were overwritten. Both are sorted sets whose scores say until when what
// they list lives, in milliseconds since 1970 by the clock of the process that
// wrote it. The truth are the values: what an index lists may be gone or belong
// to another workflow by now.
//
// On one server, though, every write of ours changes a value and the index of
// configs that lists it in one transaction. So what the index of configs says
// still has more than clockSkew to live is taken for there. A score may be too
// low, which costs a look at the value. It is too high only after something that
// was not us took a value away (an eviction, redis-cli), if a Set failed between
// its first trip and its second one, if a value expired in the instant in which
// it was extended, or if one was removed or moved whose head this release cannot
// read.

const (
	// indexGrace is how much longer an index lives than what it lists.
	indexGrace = time.Second
	// clockSkew is by how much the clocks of processes may differ before a
	// listing shows what is gone.
	clockSkew = time.Minute
	// tidyEvery is how many saves there are, about, to one that also looks for
	// what an index still lists tidyAfter it was to end.
	tidyEvery = 64
	tidyAfter = time.Hour
)

// index is what a batch changes in an index.
type index struct {
	key     string
	members []any // score, member, score, member
	ttl     time.Duration
	exact   bool // lives may become shorter

	reply *redis.IntCmd
}

// score is how an index says when.
func score(at time.Time) string { return strconv.FormatInt(at.UnixMicro(), 10) }

// list adds a member that lives for ttl from now on. Members listed together get
// different scores, by which a walk can go on where it was.
func (x *index) list(member string, now time.Time, ttl time.Duration) {
	x.members = append(x.members, now.UnixMicro()+ttl.Microseconds()-int64(len(x.members)/2), member)
	x.ttl = max(x.ttl, listedFor(ttl))
}

// add queues the change: the life of the index is only ever extended. GT alone
// would leave a new index, which has no expiry yet, without one.
func (x *index) add(ctx context.Context, p redis.Pipeliner) {
	if x == nil {
		return
	}
	if x.exact {
		x.reply = x.zadd(ctx, p)
	} else {
		x.reply = x.zadd(ctx, p, "gt")
	}
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "nx")
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "gt")
}

// extend queues longer lives for the index and, with scores, for what it lists.
// Redis without memory refuses the scores.
func (x *index) extend(ctx context.Context, p redis.Pipeliner, scores bool) {
	if scores {
		x.zadd(ctx, p, "xx", "gt")
	}
	p.Do(ctx, "pexpire", x.key, x.ttl.Milliseconds(), "gt")
}

func (x *index) zadd(ctx context.Context, p redis.Pipeliner, how ...any) *redis.IntCmd {
	args := make([]any, 0, 2+len(how)+len(x.members))
	args = append(args, "zadd", x.key)
	args = append(args, how...)
	reply := redis.NewIntCmd(ctx, append(args, x.members...)...)
	_ = p.Process(ctx, reply)
	return reply
}

// indexes are the changes to the workflows' indexes that a batch needs, one per
// workflow.
func (s *Store) indexes(batch []*writing) []*index {
	var all []*index
	now := s.now()
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
		x.list(w.ref.ID, now, w.new.ttl)
	}
	return all
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

// leave takes a config that moves to another workflow out of the index of the
// one that it was of. In one transaction with the write it needs no second look,
// as prune does: whoever moves the config back writes after it.
func (s *Store) leave(ctx context.Context, p redis.Pipeliner, w *writing) {
	if s.ordered && w.old.workflow != "" && w.old.workflow != w.new.workflow {
		p.ZRem(ctx, s.space.WorkflowIndex(w.old.workflow), w.ref.ID)
	}
}
