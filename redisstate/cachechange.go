package redisstate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Invalidate takes states out, after the database was changed without Change.
// Loads that began before are not used. Errors: ErrInvalidKey, ErrClosed,
// ErrUnavailable, after which a state may still be used for up to TTL: try again.
func (c *Cache[T]) Invalidate(ctx context.Context, ids ...string) error {
	if err := c.check(opCacheInvalidate, ids...); err != nil {
		return err
	}
	return rediserr.Wrap(ctx, opCacheInvalidate, stateFamily, c.drop(ctx, distinct(ids)))
}

// drop removes guards and states.
func (c *Cache[T]) drop(ctx context.Context, ids []string) error { return c.dropMarked(ctx, ids, "") }

// dropMarked does so, and takes a change off the lists of those under way.
func (c *Cache[T]) dropMarked(ctx context.Context, ids []string, guard string) error {
	err := c.each(ctx, ids, func(p redis.Pipeliner, id string) {
		p.Del(ctx, c.space.StateGuard(c.kind, id), c.space.State(c.kind, id))
		if guard != "" {
			p.ZRem(ctx, c.space.StateChanges(c.kind, id), guard)
		}
	})
	if err == nil {
		c.events.WithLabelValues(telemetry.StateInvalidated).Add(float64(len(ids)))
	}
	return err
}

// each sends commands for each id, those of one id at once. On Cluster ids are
// in different slots. All are tried.
func (c *Cache[T]) each(ctx context.Context, ids []string, queue func(p redis.Pipeliner, id string)) error {
	var errs []error
	step := 1
	if c.ordered {
		step = maxBatch
	}
	for start := 0; start < len(ids); start += step {
		cmds, err := c.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, id := range ids[start:min(start+step, len(ids))] {
				queue(p, id)
			}
			return nil
		})
		errs = append(errs, rediserr.Reason(err, cmds))
	}
	return errors.Join(errs...)
}

// endTimeout bounds what follows a change, also for a caller who gave up.
const endTimeout = 5 * time.Second

// Change goes around a transaction of the host that changes the states of ids.
// First it lists itself as under way, so that nothing of them is used or put in;
// if Redis refuses that, commit is not called and the error wraps ErrUnavailable. Then it
// calls commit, whose context ends after three quarters of
// CacheOptions.ChangeTimeout. It must have ended its transaction when it returns,
// and returns the states that are in the database now, as far as it knows them:
// those are kept (write-through), the others are loaded when they are asked for.
// After an error of commit, which Change returns as it is, none are kept: whether
// the transaction was committed may not be known.
//
// If Redis does not take what follows a commit, Change returns nil all the same:
// the change stays listed until ChangeTimeout ends it, and reads go to the
// database.
func (c *Cache[T]) Change(ctx context.Context, ids []string, commit func(ctx context.Context) (map[string]T, error)) error {
	if err := c.check(opCacheChange, ids...); err != nil {
		return err
	}
	ids = distinct(ids)
	began := time.Now()
	guard := mark + rand.Text()
	if err := c.mark(ctx, ids, guard); err != nil {
		c.end(ctx, ids, func(ctx context.Context) error { return c.dropMarked(ctx, ids, guard) })
		return rediserr.Wrap(ctx, opCacheChange, stateFamily, err)
	}
	bounded, cancel := context.WithDeadline(ctx, began.Add(c.change*3/4))
	defer cancel()
	var states map[string]T
	committed := false
	defer func() { // also when commit panics
		if !committed || time.Since(began) >= c.change*3/4 {
			states = nil
		}
		c.end(ctx, ids, func(ctx context.Context) error { return c.writeThrough(ctx, ids, guard, states) })
	}()
	var err error
	states, err = commit(bounded)
	committed = err == nil
	return err
}

// mark lists a change as under way and removes what is there. The guard becomes
// the change's own: as long as it is there, no other change began or ended. What
// a process that died left listed goes a minute after its time.
func (c *Cache[T]) mark(ctx context.Context, ids []string, guard string) error {
	now := time.Now()
	return c.each(ctx, ids, func(p redis.Pipeliner, id string) {
		name := c.space.StateChanges(c.kind, id)
		p.ZRemRangeByScore(ctx, name, "-inf", score(now.Add(-clockSkew)))
		p.ZAdd(ctx, name, redis.Z{Score: float64(now.Add(c.change).UnixMicro()), Member: guard})
		p.PExpire(ctx, name, c.change)
		p.Set(ctx, c.space.StateGuard(c.kind, id), guard, c.change)
		p.Del(ctx, c.space.State(c.kind, id))
	})
}

// end does what follows a change. A failure is told nobody but those who watch:
// the database has the change.
func (c *Cache[T]) end(ctx context.Context, ids []string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := do(ctx); err != nil {
		c.events.WithLabelValues(telemetry.StateUnconfirmed).Add(float64(len(ids)))
		c.log.WarnContext(ctx, "Redis did not take what follows a change; reads go to the database until the mark expires",
			"op", opCacheChange, "family", stateFamily, "error", rediserr.Wrap(ctx, opCacheChange, stateFamily, err))
	}
}

// writeThrough ends a change: states that are known are put in under a new
// guard, the others are taken out.
func (c *Cache[T]) writeThrough(ctx context.Context, ids []string, guard string, states map[string]T) error {
	var out []string
	var errs []error
	for _, id := range ids {
		state, known := states[id]
		if known {
			var err error
			if known, err = c.install(ctx, id, guard, state); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if !known {
			out = append(out, id)
		}
	}
	if len(out) > 0 {
		errs = append(errs, c.dropMarked(ctx, out, guard))
	}
	return errors.Join(errs...)
}

// install puts in a state if no other change of it was under way meanwhile: that
// may have been later. It reports false if not.
func (c *Cache[T]) install(ctx context.Context, id, guard string, state T) (bool, error) {
	fresh := rand.Text()
	raw, _ := c.encode(id, fresh, state)
	if raw == nil { // too large, or no JSON: it is loaded when asked for
		return false, nil
	}
	name, changes, was := c.space.StateGuard(c.kind, id), c.space.StateChanges(c.kind, id), false
	err := c.client.Watch(ctx, func(tx *redis.Tx) error {
		held, err := tx.Get(ctx, name).Result()
		if errors.Is(err, redis.Nil) || (err == nil && held != guard) {
			return nil
		}
		if err != nil {
			return err
		}
		if n, err := tx.ZCard(ctx, changes).Result(); err != nil || n != 1 {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Del(ctx, changes)
			p.Set(ctx, name, fresh, c.ttl)
			p.Set(ctx, c.space.State(c.kind, id), raw, c.ttl)
			return nil
		})
		was = err == nil
		return err
	}, name, changes)
	if errors.Is(err, redis.TxFailedErr) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write through: %w", err)
	}
	if was {
		c.events.WithLabelValues(telemetry.StateWritten).Inc()
	}
	return was, nil
}
