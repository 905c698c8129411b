package redisstate

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// swapTries bounds how often a write over others meets another writer of one of its
// ids. Of several writers one always gets on, and who has to try again is faster than
// who comes anew.
const swapTries = 128

var (
	// errOvertaken says that an id has other content than what was looked at.
	errOvertaken = errors.New("another writer was faster")
	// errUnguarded says that nothing can be watched: by a user who may not, on a node
	// that sends us elsewhere, or between writers who are always faster.
	errUnguarded = errors.New("what is there cannot be guarded")
)

// swap writes a batch over what is there, on one server. On one connection it watches
// the ids and looks whether they still have what it knows of; and in one transaction,
// which Redis refuses if one has changed since, it puts that aside and replaces it. So
// there is no moment in which the refs of what is replaced find nothing.
func (s *Store) swap(ctx context.Context, batch []*writing) error {
	for sent := 0; ; sent++ {
		var g guard
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			g.Tx = tx
			return s.swapOn(ctx, &g, batch)
		})
		if errors.Is(err, errUnguarded) {
			return s.swapUnguarded(ctx, batch)
		}
		// A connection that watches is not exchanged by the client, as it does where
		// what was lost was no transaction.
		if answered(err) || g.unknown || sent >= s.resends || rediserr.Classify(ctx, err) != rediserr.Unavailable {
			return err
		}
	}
}

func (s *Store) swapOn(ctx context.Context, g *guard, batch []*writing) error {
	defer g.release(ctx)
	for try := range swapTries {
		err := s.look(ctx, g, batch, try > 0)
		if err == nil {
			err = s.exchange(ctx, g, batch)
		}
		if !again(err) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return errUnguarded
}

// again tells whether a swap did nothing, and may succeed when it looks again.
func again(err error) bool {
	return errors.Is(err, errOvertaken) || errors.Is(err, errRefused) || errors.Is(err, redis.TxFailedErr)
}

// exchange puts aside and replaces what look saw.
func (s *Store) exchange(ctx context.Context, g *guard, batch []*writing) error {
	if err := s.sealAgain(ctx, g, batch); err != nil {
		return err
	}
	var asides []*index
	err := s.replace(ctx, g, batch, func(p redis.Pipeliner) {
		asides = asides[:0]
		for _, w := range batch {
			if w.kept != nil { // somebody may have extended its life
				asides = append(asides, s.queueAside(ctx, p, w, max(w.old.ttl, w.left.Val())))
			}
		}
		addAll(ctx, p, s.relisted(batch))
	})
	for _, x := range asides {
		if err == nil && x != nil {
			err = x.reply.Err()
		}
	}
	return err
}

// swapUnguarded does the same in two trips with the client's own ways of sending. In
// between another writer may be faster, and overwrite puts aside late what it wrote.
func (s *Store) swapUnguarded(ctx context.Context, batch []*writing) error {
	if err := s.putAside(ctx, batch, true); err != nil {
		return err
	}
	return s.replaceAnyway(ctx, batch, func(p redis.Pipeliner) { addAll(ctx, p, s.relisted(batch)) })
}

func (s *Store) replaceAnyway(ctx context.Context, batch []*writing, first func(p redis.Pipeliner)) error {
	for {
		if err := s.replace(ctx, s.client, batch, first); !errors.Is(err, errRefused) {
			return err
		}
	}
}

// parallelWrites bounds the transactions of one call on Cluster.
const parallelWrites = 8

// swapEach does what swap does on Cluster, where what is aside has another slot: it is
// put there before, with the listings, and each id is a transaction of its own.
func (s *Store) swapEach(ctx context.Context, batch []*writing) error {
	if err := s.putAside(ctx, batch, true, s.relisted(batch)...); err != nil {
		return err
	}
	return inParallel(len(batch), parallelWrites, allErrors, func(i int) error { return s.swapAlone(ctx, batch[i:i+1]) })
}

func (s *Store) swapAlone(ctx context.Context, one []*writing) error {
	w, alone, unknown := one[0], func(redis.Pipeliner) {}, false
	for range swapTries {
		err := s.onMaster(ctx, w.key, func(g *guard) error {
			defer g.release(ctx)
			if err := s.look(ctx, g, one, false); err != nil {
				return err
			}
			err := s.replace(ctx, g, one, alone)
			unknown = g.unknown
			return err
		})
		if err == nil || unknown {
			return err
		}
		if !again(err) {
			break // the client has its ways on a Cluster
		}
		// Not on the connection that watches: who holds one must not wait for another.
		if err := w.meet(s.client.Get(ctx, w.key)); err != nil {
			return err
		}
		if err := s.putAside(ctx, one, true); err != nil {
			return err
		}
	}
	return s.replaceAnyway(ctx, one, alone)
}

// onMaster calls do with a connection to the master that has a key.
func (s *Store) onMaster(ctx context.Context, key string, do func(g *guard) error) error {
	members, ok := s.client.(interface {
		MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	})
	if !ok {
		return errUnguarded
	}
	master, err := members.MasterForKey(ctx, key)
	if err != nil {
		return err
	}
	return master.Watch(ctx, func(tx *redis.Tx) error { return do(&guard{Tx: tx}) })
}

// guard is a connection that watches ids. The command that watches is in a pipeline with
// others, where go-redis does not see it: so we release it ourselves.
type guard struct {
	*redis.Tx
	watches bool
	unknown bool // whether a transaction was executed
}

// TxPipelined makes a transaction, after which nothing is watched: whether it was refused,
// or any of its commands was executed.
func (g *guard) TxPipelined(ctx context.Context, queue func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	cmds, err := g.Tx.TxPipelined(ctx, queue)
	executed := func(cmd redis.Cmder) bool { return cmd.Err() == nil || errors.Is(cmd.Err(), redis.Nil) }
	g.unknown = !answered(err)
	if errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err) || slices.ContainsFunc(cmds, executed) {
		g.watches = false
	}
	return cmds, err
}

// answered tells whether a server said err, or there is none.
func answered(err error) bool {
	_, said := errors.AsType[redis.Error](err)
	return err == nil || said
}

// release gives the connection back as it was. A caller who gave up is no reason not to.
func (g *guard) release(ctx context.Context) {
	if g.watches {
		_ = g.Unwatch(context.WithoutCancel(ctx)).Err()
	}
}

// look watches the ids of a batch, and tells whether all of them still have what w.reply
// says. With whole, what they have is read and taken for that.
func (s *Store) look(ctx context.Context, g *guard, batch []*writing, whole bool) error {
	there := make([]*redis.StringCmd, len(batch))
	args := make([]any, 1, 1+len(batch))
	args[0] = "watch"
	for _, w := range batch {
		args = append(args, w.key)
	}
	watch := redis.NewStatusCmd(ctx, args...)
	cmds, err := g.Pipelined(ctx, func(p redis.Pipeliner) error {
		if g.watches {
			p.Do(ctx, "unwatch")
		}
		_ = p.Process(ctx, watch)
		for i, w := range batch {
			if w.left = p.PTTL(ctx, w.key); whole {
				there[i] = p.Get(ctx, w.key)
				continue
			}
			there[i] = p.GetRange(ctx, w.key, 0, headerBytes-1)
			if w.kept != nil {
				s.lookAside(ctx, p, w)
			}
		}
		return nil
	})
	if watch.Err() == nil {
		g.watches = true
	} else if answered(watch.Err()) {
		return errUnguarded
	}
	if err = unlessReply(err, cmds); err != nil {
		return err
	}
	for i, w := range batch {
		if whole {
			err = w.meet(there[i])
		} else if known := w.reply.Val(); there[i].Val() != known[:min(len(known), headerBytes)] {
			err = errOvertaken
		}
		if err != nil {
			return err
		}
	}
	if !whole || s.envelope.keys.newest() == nil {
		return nil
	}
	cmds, err = g.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, w := range batch {
			if w.kept != nil {
				s.lookAside(ctx, p, w)
			}
		}
		return nil
	})
	return unlessReply(err, cmds)
}

// meet takes what an id that is to be written over has by now for what w knows of.
func (w *writing) meet(reply *redis.StringCmd) error {
	w.reply, w.aside = reply, nil
	w.old, w.stale, w.kept, w.same = value{}, false, nil, false
	needs, err := w.conflicts()
	if needs == longerLife { // another writer saved the same
		w.rewrite()
	}
	return err
}
