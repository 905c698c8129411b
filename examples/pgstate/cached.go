package pgstate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
)

// version is that of WorkflowState and TaskState as they are in Redis. Raise it
// whenever they change.
const version = "1"

// Options say what a Cached keeps, and for how long.
type Options struct {
	// TTL is how long a state is used at most before it is loaded anew, at least
	// one second. Defaults to a minute.
	TTL time.Duration
	// ChangeTimeout is for how long reads go to PostgreSQL if a process dies in a
	// commit or does not know its outcome, at least one second. A COMMIT gets three
	// quarters of it. Defaults to a minute.
	ChangeTimeout time.Duration
	// Locks is told when the database remembers a higher fence than that of a lease
	// which is held: Redis lost its counter. The next lease then has a higher one.
	// Defaults to none.
	Locks Raiser
	// Redis are the namespace, the encryption and the telemetry.
	Redis redisstate.Options
}

// Raiser has the fences of a resource go on above one; *locking.Manager is one.
type Raiser interface {
	Raise(ctx context.Context, resource string, fence uint64) error
}

type (
	states  = redisstate.Cache[aggregate]
	changes = redisstate.Changes[aggregate]
	// aggregate is a workflow without its tasks, and its tasks.
	aggregate = redisstate.Aggregate[WorkflowState, TaskState]
)

// Cached is a Repository that reads states through Redis. All writers of the
// tables use one, on the same Redis and namespace.
type Cached struct {
	db    handle
	cache *states
	locks Raiser
}

// NewCached makes one on a pool and a client, which stay the caller's. It does no
// I/O. The client must read from masters. Errors wrap redisstate.ErrInvalidOptions.
func NewCached(pool *pgxpool.Pool, client redis.UniversalClient, o Options) (*Cached, error) {
	return newCached(pool, NewPostgres(pool).GetState, client, o)
}

func newCached(db handle, load func(ctx context.Context, workflowExecID string) (*WorkflowState, error), client redis.UniversalClient, o Options) (*Cached, error) {
	cache, err := redisstate.NewAggregateCache(client, redisstate.CacheOptions[aggregate]{
		Kind: "workflow", Version: version, TTL: o.TTL, ChangeTimeout: o.ChangeTimeout,
		Load: func(ctx context.Context, id string) (aggregate, error) {
			state, err := load(ctx, id)
			if err != nil {
				return aggregate{}, err
			}
			return apart(state), nil
		},
	}, o.Redis)
	if err != nil {
		return nil, err
	}
	return &Cached{db: db, cache: cache, locks: o.Locks}, nil
}

// Close ends the cache. The pool and the client stay open.
func (c *Cached) Close() error { return c.cache.Close() }

// GetState implements Repository. It reads through Redis, and from PostgreSQL
// while Redis is away.
func (c *Cached) GetState(ctx context.Context, workflowExecID string) (*WorkflowState, error) {
	found, err := c.cache.Get(ctx, workflowExecID)
	if err != nil {
		return nil, err
	}
	return together(found), nil
}

// Invalidate takes workflows out after somebody wrote to them in another way.
// Errors: redisstate.ErrUnavailable, after which a state may be too old for up to
// TTL: try again.
func (c *Cached) Invalidate(ctx context.Context, workflowExecIDs ...string) error {
	return c.cache.Invalidate(ctx, workflowExecIDs...)
}

// WithTransaction implements Repository. If Redis refuses what must be there
// before the commit, nothing is committed: the error wraps
// redisstate.ErrUnavailable or redisstate.ErrDenied. In the transaction reads go
// to it, not to Redis. Under leases (locking.AllFromContext) it is guarded by their
// fences: if a later lease of one has written, nothing is, and the error is
// ErrStaleFence; if one is over as far as its holder can know, that is the error.
func (c *Cached) WithTransaction(ctx context.Context, fn func(ctx context.Context, tx Repository) error) error {
	changed := c.cache.Changes()
	return transact(ctx, c.db,
		func(tx pgx.Tx) error {
			if err := c.guard(ctx, tx); err != nil {
				return err
			}
			return fn(ctx, newCachedTx(tx, changed))
		},
		func(ctx context.Context, tx pgx.Tx) error {
			return changed.Commit(ctx, func(ctx context.Context) error { return commitTx(ctx, tx) })
		})
}

// guard lets the holder of the newest leases write, if ctx has some. Their rows are
// taken in one order, so that two who write do not wait for each other.
func (c *Cached) guard(ctx context.Context, tx pgx.Tx) error {
	leases := slices.Clone(locking.AllFromContext(ctx))
	slices.SortFunc(leases, func(a, b *locking.Lease) int { return strings.Compare(a.Resource(), b.Resource()) })
	for _, lease := range slices.Compact(leases) {
		if err := c.guardOne(ctx, tx, lease); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cached) guardOne(ctx context.Context, tx pgx.Tx, lease *locking.Lease) error {
	if err := lease.Err(); err != nil {
		return fmt.Errorf("pgstate: the lease is over: %w", err)
	}
	err := Guard(ctx, tx, lease)
	if stale, is := errors.AsType[*StaleFenceError](err); is && c.locks != nil && lease.Err() == nil {
		// Redis lost its counter: one that lost its lease would know by now, or soon.
		err = errors.Join(err, c.locks.Raise(ctx, stale.Resource, stale.Stored))
	}
	return err
}

// UpsertState implements Repository.
func (c *Cached) UpsertState(ctx context.Context, state *WorkflowState) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error { return tx.UpsertState(ctx, state) })
}

// UpdateStatus implements Repository.
func (c *Cached) UpdateStatus(ctx context.Context, workflowExecID string, status Status) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error { return tx.UpdateStatus(ctx, workflowExecID, status) })
}

// SaveStateWithLocking implements Repository.
func (c *Cached) SaveStateWithLocking(ctx context.Context, workflowExecID string, update func(*WorkflowState) error) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		return tx.SaveStateWithLocking(ctx, workflowExecID, update)
	})
}

// UpsertTask implements Repository.
func (c *Cached) UpsertTask(ctx context.Context, task *TaskState) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error { return tx.UpsertTask(ctx, task) })
}

// SaveTaskWithLocking implements Repository.
func (c *Cached) SaveTaskWithLocking(ctx context.Context, taskExecID string, update func(*TaskState) error) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
		return tx.SaveTaskWithLocking(ctx, taskExecID, update)
	})
}

// DeleteTask implements Repository.
func (c *Cached) DeleteTask(ctx context.Context, taskExecID string) error {
	return c.WithTransaction(ctx, func(ctx context.Context, tx Repository) error { return tx.DeleteTask(ctx, taskExecID) })
}

// apart makes what is kept of a state.
func apart(state *WorkflowState) aggregate {
	kept := aggregate{Head: *state, Parts: make(map[string]TaskState, len(state.Tasks))}
	kept.Head.Tasks = nil
	for id, task := range state.Tasks {
		kept.Parts[id] = *task
	}
	return kept
}

// together makes a state that is the caller's own: those who wait for one load
// get the same value from the cache.
func together(kept aggregate) *WorkflowState {
	state := kept.Head
	state.Tasks = make(map[string]*TaskState, len(kept.Parts))
	for id, task := range kept.Parts {
		state.Tasks[id] = &task
	}
	return &state
}
