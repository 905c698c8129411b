package redisstate

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// A write over what others write too is tried so often, and begun anew for so long; then
// it comes unguarded. Two writers hardly ever need three tries. Who is farther away than
// another might need them for ever.
const (
	swapTries = 8
	swapTime  = time.Second
)

var (
	// errOvertaken says that an id has other content than what was looked at.
	errOvertaken = errors.New("another writer was faster")
	// errUnguarded says that nothing can be watched: by a user who may not, or between
	// writers who are always faster.
	errUnguarded = errors.New("what is there cannot be guarded")
	// errCrowded says that one of several ids was written by another.
	errCrowded = errors.New("another writer was faster with one of several")
)

// swap writes a batch over what is there, on one server. On one connection it watches
// the ids and looks whether they still have what it knows of; and in one transaction,
// which Redis refuses if one has changed since, it puts that aside and replaces it. So
// there is no moment in which the refs of what is replaced find nothing.
func (s *Store) swap(ctx context.Context, batch []*writing) error {
	return s.swapUntil(ctx, batch, time.Now().Add(s.guards), false)
}

// swapUntil reads the whole contents at first, or only compares them with what is known.
func (s *Store) swapUntil(ctx context.Context, batch []*writing, until time.Time, whole bool) error {
	for sent := 0; ; sent++ {
		var g guard
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			g.Tx = tx
			return s.swapOn(ctx, &g, batch, until, whole || sent > 0)
		})
		switch {
		case errors.Is(err, errCrowded): // the others need not be sent again and again for one
			half := len(batch) / 2
			if err := s.swapUntil(ctx, batch[:half], until, true); err != nil {
				return err
			}
			return s.swapUntil(ctx, batch[half:], until, true)
		case errors.Is(err, errUnguarded):
			return s.swapUnguarded(ctx, batch)
		case !broke(err) || g.unknown || sent >= s.resends || ctx.Err() != nil:
			return err
		}
	}
}

// broke tells whether a connection was had, and lost. One that watches is not exchanged by
// the client, as it does where what was lost was no transaction.
func broke(err error) bool {
	op, failed := errors.AsType[*net.OpError](err)
	return !answered(err) && !errors.Is(err, redis.ErrPoolTimeout) && !errors.Is(err, redis.ErrClosed) &&
		(!failed || op.Op != "dial") && rediserr.Classify(context.Background(), err) == rediserr.Unavailable
}

func (s *Store) swapOn(ctx context.Context, g *guard, batch []*writing, until time.Time, whole bool) error {
	defer g.release(ctx)
	for try := range swapTries {
		err := s.look(ctx, g, batch, whole || try > 0)
		if err == nil {
			err = s.exchange(ctx, g, batch)
		}
		if !again(err) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case time.Now().After(until):
			return errUnguarded
		case len(batch) > 1 && !errors.Is(err, errRefused):
			return errCrowded
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
	if err := s.mendAsides(ctx, g, batch); err != nil {
		return err
	}
	var asides []*index
	var late []*writing
	err := s.replace(ctx, g, batch, func(p redis.Pipeliner) {
		for _, w := range batch {
			if w.kept != nil { // somebody may have extended its life
				if w.aside == nil {
					s.lookAside(ctx, p, w)
					late = append(late, w)
				}
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
	if err != nil {
		return err
	}
	return s.mendAsides(ctx, g, late)
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

// swapEach does what swapUnguarded does on Cluster, where what is aside has another slot,
// and nothing that is watched could guard it. The listings come before, and each id is a
// transaction of its own.
func (s *Store) swapEach(ctx context.Context, batch []*writing) error {
	if err := s.putAside(ctx, batch, true, s.relisted(batch)...); err != nil {
		return err
	}
	return inParallel(len(batch), parallelWrites, allErrors, func(i int) error {
		return s.replaceAnyway(ctx, batch[i:i+1], func(redis.Pipeliner) {})
	})
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

// release gives the connection back as it was. A caller who gave up is no reason not to,
// nor that the user may not UNWATCH: an empty transaction does it too.
func (g *guard) release(ctx context.Context) {
	if !g.watches {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err := g.Unwatch(ctx).Err(); err != nil && answered(err) {
		_, _ = g.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Do(ctx, "multi")
			p.Do(ctx, "exec")
			return nil
		})
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
	var unwatch *redis.Cmd
	cmds, err := g.Pipelined(ctx, func(p redis.Pipeliner) error {
		if g.watches {
			unwatch = p.Do(ctx, "unwatch")
		}
		_ = p.Process(ctx, watch)
		for i, w := range batch {
			if w.left = p.PTTL(ctx, w.key); whole {
				there[i] = p.Get(ctx, w.key)
				continue
			}
			there[i] = p.GetRange(ctx, w.key, 0, int64(headBytes+maxSealBytes-1))
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
	if unwatch != nil && unwatch.Err() != nil && answered(unwatch.Err()) {
		return errUnguarded
	}
	if err = unlessReply(err, cmds); err != nil {
		return err
	}
	for i, w := range batch {
		if whole {
			err = w.meet(there[i])
		} else if known := w.reply.Val(); there[i].Val() != known[:min(len(known), headBytes+maxSealBytes)] {
			err = errOvertaken
		}
		if err != nil {
			return err
		}
	}
	if !whole || s.envelope.keys.newest() == nil { // then exchange looks, without a trip more
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
	if w.same { // it may be other content now
		w.new.ttl = w.asked
		w.raw = w.new.encode(w.envelope, w.ref.ID)
	}
	w.old, w.stale, w.kept, w.same = value{}, false, nil, false
	needs, err := w.conflicts()
	if needs == longerLife { // another writer saved the same
		w.rewrite()
	}
	return err
}
