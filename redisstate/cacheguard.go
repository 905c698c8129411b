package redisstate

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// guards is the protocol that keeps cached states right. Beside each state there
// is a guard, and a list of the changes of it that are under way, all in one
// slot.
//
//   - A state is used only while the guard that it was made under is there.
//   - Before it begins, a load takes the guard that is there, or makes one.
//   - Before its commit, a change lists itself and replaces the guard by its
//     mark: what was loaded before is never used, and nothing is put in under a
//     mark or while a change is listed.
//   - After its commit, a change leaves the list, and makes a guard only for a
//     state that it knows, if no other change was listed meanwhile.
type guards struct {
	client  redis.UniversalClient
	space   keys.Space
	kind    string
	ttl     time.Duration // of guards that loads make, and of states
	change  time.Duration // of marks
	ordered bool          // one server: what concerns several ids is one pipeline
	log     *slog.Logger
	events  *prometheus.CounterVec
}

// mark begins the guard of a change.
const mark = "!"

// take makes a guard, or tells the one that is there, and whether a change is
// under way. Under a guard that was seen without one, a load may be put in: a
// change that begins later replaces the guard.
func (g *guards) take(ctx context.Context, id string) (guard string, changing bool, err error) {
	guard = rand.Text()
	var before *redis.StatusCmd
	var listed *redis.IntCmd
	cmds, err := g.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		before = p.SetArgs(ctx, g.space.StateGuard(g.kind, id), guard, redis.SetArgs{Mode: "NX", Get: true, TTL: g.ttl})
		listed = g.listed(ctx, p, id)
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return "", false, err
	}
	if held, err := before.Result(); !errors.Is(err, redis.Nil) {
		guard = held
	}
	return guard, listed.Val() > 0, nil
}

// listed counts the changes that are under way. One whose process died does not
// count any more a minute after its time, which is that of another clock.
func (g *guards) listed(ctx context.Context, to redis.Cmdable, id string) *redis.IntCmd {
	return to.ZCount(ctx, g.space.StateChanges(g.kind, id), score(time.Now().Add(-clockSkew)), "+inf")
}

// mark lists a change of ids as under way, whose guard becomes its mark, and
// tells the guards from before. As long as its mark is there, no other change
// began. An error ends it early.
func (g *guards) mark(ctx context.Context, ids []string, own string) (before []*redis.StatusCmd, err error) {
	now := time.Now()
	before = make([]*redis.StatusCmd, len(ids))
	err = g.each(ctx, ids, firstError, func(p redis.Pipeliner, i int) {
		name := g.space.StateChanges(g.kind, ids[i])
		p.ZRemRangeByScore(ctx, name, "-inf", score(now.Add(-clockSkew)))
		p.ZAdd(ctx, name, redis.Z{Score: float64(now.Add(g.change).UnixMicro()), Member: own})
		// Others may be listed for longer.
		p.Do(ctx, "pexpire", name, g.change.Milliseconds(), "nx")
		p.Do(ctx, "pexpire", name, g.change.Milliseconds(), "gt")
		before[i] = p.SetArgs(ctx, g.space.StateGuard(g.kind, ids[i]), own, redis.SetArgs{Get: true, TTL: g.change})
	})
	return before, err
}

// drop takes out states, and a change off their lists; own is empty for none.
func (g *guards) drop(ctx context.Context, ids []string, own string) error {
	err := g.each(ctx, ids, allErrors, func(p redis.Pipeliner, i int) {
		p.Del(ctx, g.space.StateGuard(g.kind, ids[i]), g.space.State(g.kind, ids[i]))
		if own != "" {
			p.ZRem(ctx, g.space.StateChanges(g.kind, ids[i]), own)
		}
	})
	if err == nil {
		g.events.WithLabelValues(telemetry.StateInvalidated).Add(float64(len(ids)))
	}
	return err
}

// errNotAlone says that a change is not the only one of a state.
var errNotAlone = errors.New("others change the state too")

// install ends a change of one state that is known: queue puts it in under a new
// guard. If another change was under way meanwhile, it returns errNotAlone and
// nothing is done: that one may have been later. prepare may look at the state
// with tx, and its error ends it too; with looks, nothing is done either if the
// state was touched since.
func (g *guards) install(ctx context.Context, id, own string, looks bool, prepare func(tx *redis.Tx, fresh string) (func(redis.Pipeliner), error)) error {
	name, changes := g.space.StateGuard(g.kind, id), g.space.StateChanges(g.kind, id)
	watched := []string{name} // whoever lists a change sets it too
	if looks {
		watched = append(watched, g.space.State(g.kind, id))
	}
	err := g.client.Watch(ctx, func(tx *redis.Tx) error {
		var held *redis.StringCmd
		var listed *redis.IntCmd
		_, err := tx.Pipelined(ctx, func(p redis.Pipeliner) error {
			held, listed = p.Get(ctx, name), g.listed(ctx, p, id)
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if held.Val() != own || listed.Val() != 1 {
			return errNotAlone
		}
		fresh := rand.Text()
		write, err := prepare(tx, fresh)
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Del(ctx, changes)
			p.Set(ctx, name, fresh, g.ttl)
			write(p)
			return nil
		})
		return err
	}, watched...)
	if errors.Is(err, redis.TxFailedErr) {
		return errNotAlone
	}
	return err
}

// parallelStates bounds what is done for several states at the same time.
const parallelStates = 8

// each sends commands for each id, by its place; those of one id are executed at
// once. On Cluster ids are in different slots, a few of which are asked at a time.
func (g *guards) each(ctx context.Context, ids []string, stop bool, queue func(p redis.Pipeliner, i int)) error {
	step, parallel := 1, parallelStates
	if g.ordered {
		step, parallel = maxBatch, 1
	}
	return inParallel((len(ids)+step-1)/step, parallel, stop, func(batch int) error {
		commands := func(p redis.Pipeliner) error {
			for i := batch * step; i < min((batch+1)*step, len(ids)); i++ {
				queue(p, i)
			}
			return nil
		}
		cmds, err := g.client.TxPipelined(ctx, commands)
		if !stop && redis.IsExecAbortError(err) {
			// Redis without memory refuses every transaction, but not what takes out.
			cmds, err = g.client.Pipelined(ctx, commands)
		}
		return rediserr.Reason(err, cmds)
	})
}

func isMark(guard string) bool { return strings.HasPrefix(guard, mark) }
