package pgstate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// quiet are options whose telemetry stays in the test.
func quiet() redisstate.Options {
	return redisstate.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
}

// fakeTx is a transaction that runs no statements. Its savepoints are like it.
type fakeTx struct {
	pgx.Tx
	commitErr          error
	commits, rollbacks int
	ended              bool
	last               *fakeTx // savepoint
}

func (tx *fakeTx) Begin(context.Context) (pgx.Tx, error) {
	tx.last = &fakeTx{}
	return tx.last, nil
}

func (tx *fakeTx) Commit(context.Context) error {
	tx.commits++
	tx.ended = true
	return tx.commitErr
}

func (tx *fakeTx) Rollback(context.Context) error {
	if tx.ended {
		return pgx.ErrTxClosed
	}
	tx.ended = true
	tx.rollbacks++
	return nil
}

// fakePool begins one transaction after the other.
type fakePool struct {
	handle
	commitErr error
	tx        *fakeTx
}

func (p *fakePool) Begin(context.Context) (pgx.Tx, error) {
	p.tx = &fakeTx{commitErr: p.commitErr}
	return p.tx, nil
}

// fixture is a Cached on an embedded Redis and a database that has one workflow.
type fixture struct {
	*Cached
	redis *miniredis.Miniredis
	pool  *fakePool
	loads atomic.Int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{redis: miniredis.RunT(t), pool: &fakePool{}}
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	load := func(_ context.Context, id string) (*WorkflowState, error) {
		f.loads.Add(1)
		return &WorkflowState{WorkflowExecID: id, Status: StatusRunning, Tasks: map[string]*TaskState{
			"a": {TaskExecID: "a", WorkflowExecID: id, Status: StatusPending},
		}}, nil
	}
	cached, err := newCached(f.pool, load, client, Options{Redis: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cached.Close() })
	f.Cached = cached
	return f
}

// read gives the state, and whether it was loaded.
func (f *fixture) read(t *testing.T) (*WorkflowState, bool) {
	t.Helper()
	before := f.loads.Load()
	state, err := f.GetState(t.Context(), "w")
	if err != nil {
		t.Fatal(err)
	}
	return state, f.loads.Load() > before
}

// writes is a transaction that leaves a task with a status.
func writes(status Status) func(context.Context, Repository) error {
	return func(_ context.Context, tx Repository) error {
		return tx.(*cachedTx).leftTask(&TaskState{TaskExecID: "a", WorkflowExecID: "w", Status: status}, "", nil)
	}
}

func TestCached_puts_in_what_a_commit_left(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.read(t)
	if err := f.WithTransaction(t.Context(), writes(StatusSuccess)); err != nil {
		t.Fatal(err)
	}
	if state, loaded := f.read(t); loaded || state.Tasks["a"].Status != StatusSuccess || state.Status != StatusRunning {
		t.Errorf("loaded %v, got %s and %s", loaded, state.Tasks["a"].Status, state.Status)
	}
}

func TestCached_forgets_what_was_not_committed(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("own")
	for name, test := range map[string]struct {
		commitErr error
		fn        func(context.Context, Repository) error
		wants     error
		loaded    bool // by the first read after it
		again     bool // by the next
	}{
		"fn failed": {nil, func(ctx context.Context, tx Repository) error {
			return errors.Join(writes(StatusFailed)(ctx, tx), errOwn)
		}, errOwn, false, false},
		"the server refused COMMIT": {pgx.ErrTxCommitRollback, writes(StatusFailed), redisstate.ErrRolledBack, true, false},
		"the connection was lost":   {io.EOF, writes(StatusFailed), ErrCommitUnknown, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.read(t)
			f.pool.commitErr = test.commitErr
			if err := f.WithTransaction(t.Context(), test.fn); !errors.Is(err, test.wants) {
				t.Fatalf("got %v; want %v", err, test.wants)
			}
			if !f.pool.tx.ended {
				t.Error("the transaction is open")
			}
			state, loaded := f.read(t)
			_, again := f.read(t)
			if state.Tasks["a"].Status != StatusPending || loaded != test.loaded || again != test.again {
				t.Errorf("got %s, loaded %v and then %v; want %v and %v", state.Tasks["a"].Status, loaded, again, test.loaded, test.again)
			}
		})
	}
}

func TestCached_does_not_commit_what_Redis_refuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.redis.Close()
	err := f.WithTransaction(t.Context(), writes(StatusSuccess))
	if !errors.Is(err, redisstate.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if f.pool.tx.commits != 0 || f.pool.tx.rollbacks != 1 {
		t.Errorf("%d commits, %d rollbacks", f.pool.tx.commits, f.pool.tx.rollbacks)
	}
	if state, _ := f.read(t); state.Status != StatusRunning {
		t.Errorf("without Redis a read gave %+v", state)
	}
	if err := f.WithTransaction(t.Context(), func(context.Context, Repository) error { return nil }); err != nil || f.pool.tx.commits != 1 {
		t.Errorf("a transaction that wrote nothing: %v, %d commits", err, f.pool.tx.commits)
	}
}

func TestCached_takes_out_what_a_savepoint_undid(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("own")
	fails := func(ctx context.Context, tx Repository) error {
		return errors.Join(writes(StatusFailed)(ctx, tx), errOwn)
	}
	for name, test := range map[string]struct {
		inner  func(t *testing.T, ctx context.Context, tx Repository)
		loaded bool
	}{
		"released": {func(t *testing.T, ctx context.Context, tx Repository) {
			if err := tx.WithTransaction(ctx, writes(StatusSuccess)); err != nil {
				t.Error(err)
			}
		}, false},
		"rolled back": {func(t *testing.T, ctx context.Context, tx Repository) {
			if err := tx.WithTransaction(ctx, fails); !errors.Is(err, errOwn) {
				t.Error(err)
			}
		}, true},
		"rolled back with one that was released in it": {func(t *testing.T, ctx context.Context, tx Repository) {
			err := tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				return errors.Join(tx.WithTransaction(ctx, writes(StatusFailed)), errOwn)
			})
			if !errors.Is(err, errOwn) {
				t.Error(err)
			}
		}, true},
		"left by a panic": {func(t *testing.T, ctx context.Context, tx Repository) {
			defer func() {
				if recover() == nil {
					t.Error("the panic was lost")
				}
				if !tx.(*cachedTx).db.(*fakeTx).last.ended {
					t.Error("the savepoint is open")
				}
			}()
			_ = tx.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				panic(errors.Join(writes(StatusFailed)(ctx, tx), errOwn))
			})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.read(t)
			err := f.WithTransaction(t.Context(), func(ctx context.Context, tx Repository) error {
				test.inner(t, ctx, tx)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, loaded := f.read(t); loaded != test.loaded {
				t.Errorf("loaded: %v; want %v", loaded, test.loaded)
			}
		})
	}
}

func TestCached_gives_states_that_are_the_callers_own(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kept := apart(&WorkflowState{WorkflowExecID: "w", Tasks: map[string]*TaskState{"a": {Status: StatusPending}}})
	one, other := together(kept), together(kept)
	one.Status, one.Tasks["a"].Status = StatusFailed, StatusFailed
	delete(one.Tasks, "b")
	if other.Status != "" || other.Tasks["a"].Status != StatusPending {
		t.Errorf("a change of one reached the other: %+v", other)
	}
	_, _ = f.read(t)
	if state, loaded := f.read(t); loaded || state.Tasks["a"].Status != StatusPending {
		t.Errorf("loaded %v: %+v", loaded, state)
	}
}

func TestNewCached_refuses_wrong_options(t *testing.T) {
	t.Parallel()
	if _, err := newCached(&fakePool{}, nil, nil, Options{TTL: 1, Redis: quiet()}); !errors.Is(err, redisstate.ErrInvalidOptions) {
		t.Errorf("got %v", err)
	}
}
