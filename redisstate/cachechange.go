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
// ErrUnavailable, after which a state may still be used for up to TTL: try again. A
// Redis that says nothing is waited for until ctx ends, or for as long as the client
// tries (about 6 s by default).
func (c *Cache[T]) Invalidate(ctx context.Context, ids ...string) error {
	if err := c.check(opCacheInvalidate, ids...); err != nil {
		return err
	}
	return rediserr.Wrap(ctx, opCacheInvalidate, stateFamily, c.drop(ctx, distinct(ids), ""))
}

// Change goes around a transaction of the host that changes the states of ids.
// First it lists itself as under way, so that nothing of them is used or put in;
// if Redis refuses that, commit is not called and the error wraps ErrUnavailable
// (after 3 s, if Redis says nothing) or ErrDenied. Then it calls commit, whose
// context ends after three quarters of CacheOptions.ChangeTimeout. It must have ended its transaction when it returns,
// and returns the states that are in the database now, as far as it read or wrote
// them inside the transaction: those are kept (write-through), the others are
// loaded when they are asked for.
//
// After an error of commit, which Change returns as it is, or a panic, the
// transaction may yet be committed, as far as is known here. So the change stays
// listed and reads go to the database until ChangeTimeout, unless the error wraps
// ErrRolledBack. Changes lists itself only for the commit, so that earlier errors
// cost nothing: prefer it where the transaction does more than one statement.
//
// If Redis does not take what follows a commit, Change returns nil all the same:
// the change stays listed until ChangeTimeout ends it, and reads go to the
// database. What follows takes up to 5 s and 10 ms for each id, also when ctx has
// ended.
func (c *Cache[T]) Change(ctx context.Context, ids []string, commit func(ctx context.Context) (map[string]T, error)) error {
	if err := c.check(opCacheChange, ids...); err != nil {
		return notCalledError{err}
	}
	return c.around(ctx, distinct(ids), func(ctx context.Context) (map[string]*edit[T], error) {
		states, err := commit(ctx)
		if err != nil {
			return nil, err
		}
		edits := make(map[string]*edit[T], len(states))
		for id, state := range states {
			edits[id] = &edit[T]{whole: &state}
		}
		return edits, nil
	})
}

// edit is what a change leaves of a state, as far as it knows: all of it, or
// parts of what was there before.
type edit[T any] struct {
	whole *T
	patch *patch
}

// around is Change with edits.
func (c *Cache[T]) around(ctx context.Context, ids []string, commit func(ctx context.Context) (map[string]*edit[T], error)) error {
	began := time.Now()
	own := mark + rand.Text()
	marking, marked := context.WithTimeout(ctx, scaled(markTimeout, ids))
	before, err := c.mark(marking, ids, own)
	marked()
	if err != nil {
		c.events.WithLabelValues(telemetry.StateRefused).Inc()
		c.unmark(ctx, ids, own)
		return notCalledError{fmt.Errorf("nothing was committed: %w", rediserr.Wrap(ctx, opCacheChange, stateFamily, err))}
	}
	bounded, stop := context.WithDeadline(ctx, began.Add(c.change*3/4))
	defer stop()
	known := false // how it ended
	var edits map[string]*edit[T]
	defer func() {
		if !known { // also when commit panics
			c.events.WithLabelValues(telemetry.StateUnknown).Inc()
			return
		}
		if time.Since(began) >= c.change*3/4 {
			edits = nil
		}
		c.follow(ctx, followTimeout, ids, func(ctx context.Context) error { return c.settleChange(ctx, ids, own, before, edits) })
	}()
	edits, err = commit(bounded)
	known = err == nil || errors.Is(err, ErrRolledBack) || errors.Is(err, errNotCalled)
	if err != nil {
		edits = nil
	}
	return err
}

// notCalledError is one that came before the transaction's commit was called. A
// change around that of another cache so knows how it ended.
type notCalledError struct{ error }

var errNotCalled = errors.New("commit was not called")

func (n notCalledError) Unwrap() error      { return n.error }
func (notCalledError) Is(target error) bool { return target == errNotCalled }

// What surrounds a change takes at most so long, and longer for many ids. The host
// may hold locks on rows meanwhile, so a Redis that says nothing ends it early;
// what follows a commit is bounded also for a caller who gave up.
const (
	markTimeout   = 2 * time.Second
	unmarkTimeout = time.Second // after a mark that was refused
	followTimeout = 5 * time.Second
	timeoutEach   = 10 * time.Millisecond
)

func scaled(d time.Duration, ids []string) time.Duration {
	return d + time.Duration(len(ids))*timeoutEach
}

// unmark takes a mark away that may have been set although it was refused. If that
// fails, it ends by itself.
func (c *Cache[T]) unmark(ctx context.Context, ids []string, own string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scaled(unmarkTimeout, ids))
	defer cancel()
	_ = c.drop(ctx, ids, own)
}

// follow does what follows a change. A failure is told nobody but those who
// watch: the database has the change.
func (c *Cache[T]) follow(ctx context.Context, within time.Duration, ids []string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scaled(within, ids))
	defer cancel()
	if err := do(ctx); err != nil {
		c.events.WithLabelValues(telemetry.StateUnconfirmed).Inc()
		c.log.WarnContext(ctx, "Redis did not take what follows a change; reads go to the database until the mark expires",
			"op", opCacheChange, "family", stateFamily, "kind", c.kind, "states", len(ids),
			"error", rediserr.Wrap(context.WithoutCancel(ctx), opCacheChange, stateFamily, err))
	}
}

// settleChange ends a change: states that are known are put in under a new guard,
// the others are taken out, as is what could not be put in.
func (c *Cache[T]) settleChange(ctx context.Context, ids []string, own string, before []*redis.StatusCmd, edits map[string]*edit[T]) error {
	var out []string
	var in []int
	for i, id := range ids {
		if e := edits[id]; e != nil {
			in = append(in, i)
		} else {
			out = append(out, id)
		}
	}
	var errs []error
	if len(out) > 0 {
		errs = append(errs, c.drop(ctx, out, own))
	}
	failed := make([]bool, len(in))
	err := inParallel(len(in), parallelStates, allErrors, func(n int) error {
		id, e := ids[in[n]], edits[ids[in[n]]]
		err := c.putIn(ctx, id, own, before[in[n]].Val(), e)
		failed[n] = err != nil
		if errors.Is(err, errNotAlone) {
			return nil
		}
		return err
	})
	errs = append(errs, err)
	out = nil
	for n, bad := range failed {
		if bad {
			out = append(out, ids[in[n]])
		}
	}
	if len(out) > 0 {
		// That a state could not be put in does not matter once it is taken out.
		errs[len(errs)-1] = c.drop(ctx, out, own)
	}
	return errors.Join(errs...)
}

// putIn writes through. What cannot be encoded is loaded when it is asked for.
func (c *Cache[T]) putIn(ctx context.Context, id, own, before string, e *edit[T]) error {
	name := c.space.State(c.kind, id)
	err := c.install(ctx, id, own, e.whole == nil, func(tx *redis.Tx, fresh string) (func(redis.Pipeliner), error) {
		if e.whole == nil {
			return c.shape.renew(ctx, tx, renewal{id: id, name: name, before: before, fresh: fresh, patch: e.patch})
		}
		packed, err := c.shape.pack(id, fresh, *e.whole)
		if err != nil {
			return nil, errNotAlone
		}
		return func(p redis.Pipeliner) { c.shape.put(ctx, p, name, packed) }, nil
	})
	if err == nil {
		c.events.WithLabelValues(telemetry.StateWritten).Inc()
	}
	return err
}
