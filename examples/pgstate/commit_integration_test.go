//go:build integration

package pgstate

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

// key is the advisory lock by which a test holds a commit.
type key int64

type gated struct {
	N    int `json:"n"`
	Gate key `json:"gate,omitempty"`
}

// hold closes the gate until the function that it gives is called.
func (d *database) hold(t *testing.T, k key) (open func()) {
	t.Helper()
	conn, err := d.pool.Acquire(t.Context())
	must(t, err)
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", k)
	must(t, err)
	opened := false
	open = func() {
		if !opened {
			opened = true
			_, _ = conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_advisory_unlock($1)", k)
			conn.Release()
		}
	}
	t.Cleanup(open)
	return open
}

// awaitCommit returns when a commit waits before the gate.
func (d *database) awaitCommit(t *testing.T, k key) {
	t.Helper()
	until(t, "a commit before the gate", func() bool {
		var n int
		err := d.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", k).Scan(&n)
		return err == nil && n == 1
	})
}

// awaitOutput returns when a task's output is committed.
func (d *database) awaitOutput(t *testing.T, workflow, id string, n int) {
	t.Helper()
	until(t, "a commit", func() bool {
		state, err := d.plain.GetState(t.Context(), workflow)
		return err == nil && outputOf(t, state, id).N == n
	})
}

// saves writes a task through a process, in the background.
func saves(t *testing.T, p *process, id string, output gated) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.SaveTaskWithLocking(t.Context(), id, setOutput(output)) }()
	return done
}

// cut ends the connections of a pool in a way that the server does not notice
// while it commits, nor is asked to cancel.
func cut(proxy *faultproxy.Proxy) {
	proxy.Refuse()
	proxy.Reset()
}

func TestCached_whose_commit_the_server_refuses(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	writer, reader := d.start(t, dial(t, server.URL()), Options{}), d.start(t, dial(t, server.URL()), Options{})
	nobody := "nobody"
	for name, fn := range map[string]func(ctx context.Context, tx Repository, w string) error{
		"for a deferred constraint": func(ctx context.Context, tx Repository, w string) error {
			child := task(w, w+"a", 1)
			child.ParentStateID = &nobody
			return tx.UpsertTask(ctx, child)
		},
		"since a statement failed and nobody said so": func(ctx context.Context, tx Repository, w string) error {
			err := tx.UpsertTask(ctx, task(w, w+"a", 1))
			_ = tx.UpsertTask(ctx, task("no such workflow", w+"b", 1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			d.seed(t, name, name+"a")
			reader.agrees(t, d, name)
			err := writer.WithTransaction(t.Context(), func(ctx context.Context, tx Repository) error { return fn(ctx, tx, name) })
			if !errors.Is(err, redisstate.ErrRolledBack) || errors.Is(err, ErrCommitUnknown) {
				t.Errorf("got %v", err)
			}
			reader.agrees(t, d, name)
			if reader.agrees(t, d, name) {
				t.Error("reads go past the cache although nothing was committed")
			}
			if state, _ := reader.get(t, name); string(state.Tasks[name+"a"].Output) != "{}" {
				t.Errorf("the task is %s", state.Tasks[name+"a"].Output)
			}
		})
	}
}

func TestCached_does_not_commit_what_redis_server_refuses(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	for name, refuse := range map[string]func(t *testing.T, s *redistest.Server){
		"which is down":   func(_ *testing.T, s *redistest.Server) { s.Kill() },
		"which is silent": func(t *testing.T, s *redistest.Server) { must(t, s.Pause()) },
		"which is read-only": func(t *testing.T, s *redistest.Server) {
			must(t, s.ControlClient(t).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
		},
		"which is full": func(t *testing.T, s *redistest.Server) {
			must(t, s.ControlClient(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			p := d.start(t, dial(t, server.URL()), Options{})
			d.seed(t, name, name+"a")
			p.agrees(t, d, name)
			refuse(t, server)
			for what, err := range map[string]error{
				"a task":     p.SaveTaskWithLocking(t.Context(), name+"a", setOutput(1)),
				"a workflow": p.UpdateStatus(t.Context(), name, StatusFailed),
			} {
				if !errors.Is(err, redisstate.ErrUnavailable) || errors.Is(err, ErrCommitUnknown) {
					t.Errorf("%s: got %v", what, err)
				}
			}
			p.agrees(t, d, name)
			if state, _ := p.get(t, name); string(state.Tasks[name+"a"].Output) != "{}" || state.Status != StatusRunning {
				t.Errorf("a refused write was committed: %s, %s", state.Tasks[name+"a"].Output, state.Status)
			}
		})
	}
}

// The COMMIT was executed, and its answer never came.
func TestCached_whose_connection_is_lost_after_the_commit(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	proxy := faultproxy.Start(t, d.addr(t))
	writer := d.start(t, dial(t, server.URL()), Options{}, through(proxy), traced(&atCommit{before: proxy.LoseReplies}))
	reader := d.start(t, dial(t, server.URL()), Options{})
	d.seed(t, "w", "a")
	reader.agrees(t, d, "w")
	if err := <-saves(t, writer, "a", gated{N: 1}); !errors.Is(err, ErrCommitUnknown) || errors.Is(err, redisstate.ErrRolledBack) {
		t.Fatalf("got %v", err)
	}
	d.awaitOutput(t, "w", "a", 1)
	for range 3 {
		if !reader.agrees(t, d, "w") {
			t.Error("a read was answered by Redis, whose state may be old")
		}
	}
	if n := writer.count(t, "unknown"); n != 1 {
		t.Errorf("%v unknown commits were counted", n)
	}
}

// late are a writer whose commit happens after it gave up, one that goes on, and a
// reader, of a workflow that has tasks a and b.
type late struct {
	*database
	lost, other, reader *process
	proxy               *faultproxy.Proxy
	workflow, a, b      string
}

func startLate(t *testing.T, d *database, workflow string) *late {
	t.Helper()
	l := &late{database: d, workflow: workflow, a: workflow + "a", b: workflow + "b"}
	server := redistest.Start(t)
	l.proxy = faultproxy.Start(t, l.addr(t))
	l.lost = l.start(t, dial(t, server.URL()), Options{}, through(l.proxy))
	l.other, l.reader = l.start(t, dial(t, server.URL()), Options{}), l.start(t, dial(t, server.URL()), Options{})
	l.seed(t, l.workflow, l.a, l.b)
	l.agrees(t)
	return l
}

func (l *late) agrees(t *testing.T) {
	t.Helper()
	l.reader.agrees(t, l.database, l.workflow)
}

// loses lets the writer of task a lose its connection before the gate.
func (l *late) loses(t *testing.T, gate key) {
	t.Helper()
	done := saves(t, l.lost, l.a, gated{N: 1, Gate: gate})
	l.awaitCommit(t, gate)
	cut(l.proxy)
	if err := <-done; !errors.Is(err, ErrCommitUnknown) || errors.Is(err, redisstate.ErrRolledBack) {
		t.Fatalf("got %v", err)
	}
}

func TestCached_reads_a_commit_that_comes_after_its_writer_gave_up(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	for name, test := range map[string]struct {
		gate    key
		between func(t *testing.T, l *late) // once it gave up
	}{
		"and nobody else writes":          {10, func(*testing.T, *late) {}},
		"while another changes the state": {20, func(t *testing.T, l *late) { must(t, <-saves(t, l.other, l.b, gated{N: 1})) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLate(t, d, name)
			open := l.hold(t, test.gate)
			l.loses(t, test.gate)
			test.between(t, l)
			l.agrees(t) // what is there before the commit must not be kept
			l.agrees(t)
			open()
			l.awaitOutput(t, l.workflow, l.a, 1)
			l.agrees(t)
			l.other.agrees(t, d, l.workflow)
		})
	}
	t.Run("that overlapped with another", func(t *testing.T) {
		t.Parallel()
		const lost, other key = 30, 31
		l := startLate(t, d, "overlap")
		openLost, openOther := l.hold(t, lost), l.hold(t, other)
		done := saves(t, l.other, l.b, gated{N: 1, Gate: other})
		l.awaitCommit(t, other)
		l.loses(t, lost)
		openOther()
		must(t, <-done)
		l.agrees(t)
		openLost()
		l.awaitOutput(t, l.workflow, l.a, 1)
		l.agrees(t)
	})
}

// Two transactions that write tasks of one workflow do not wait for each other,
// and what each leaves is read.
func TestCached_lets_writers_of_different_tasks_side_by_side(t *testing.T) {
	t.Parallel()
	const gate key = 1
	d := startDatabase(t)
	server := redistest.Start(t)
	one, other, reader := d.start(t, dial(t, server.URL()), Options{}), d.start(t, dial(t, server.URL()), Options{}), d.start(t, dial(t, server.URL()), Options{})
	d.seed(t, "w", "a", "b")
	reader.agrees(t, d, "w")
	open := d.hold(t, gate)
	done := saves(t, one, "a", gated{N: 1, Gate: gate})
	d.awaitCommit(t, gate)
	must(t, <-saves(t, other, "b", gated{N: 1})) // while the first one commits
	reader.agrees(t, d, "w")
	open()
	must(t, <-done)
	reader.agrees(t, d, "w")
	if reader.agrees(t, d, "w") {
		t.Error("reads go past the cache although both commits are known")
	}
	// One that began long before puts in its row, beside what came meanwhile.
	must(t, one.WithTransaction(t.Context(), func(ctx context.Context, tx Repository) error {
		err := tx.SaveTaskWithLocking(ctx, "a", setOutput(gated{N: 2}))
		must(t, <-saves(t, other, "b", gated{N: 2}))
		return err
	}))
	if reader.agrees(t, d, "w") {
		t.Error("what two transactions left one after the other was not written through")
	}
}

func TestCached_whose_caller_gives_up(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	server := redistest.Start(t)
	reader := d.start(t, dial(t, server.URL()), Options{})
	for name, test := range map[string]struct {
		inCommit, committed bool
		fails               error
	}{
		"before COMMIT": {false, false, context.Canceled},
		"in COMMIT":     {true, true, nil}, // it goes on
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			early, inCommit := cancel, func() {}
			if test.inCommit {
				early, inCommit = inCommit, cancel
			}
			p := d.start(t, dial(t, server.URL()), Options{}, traced(&atCommit{before: inCommit}))
			d.seed(t, name, name+"a")
			reader.agrees(t, d, name)
			err := p.WithTransaction(ctx, func(ctx context.Context, tx Repository) error {
				defer early()
				return tx.SaveTaskWithLocking(ctx, name+"a", setOutput(gated{N: 1}))
			})
			if !errors.Is(err, test.fails) || errors.Is(err, ErrCommitUnknown) {
				t.Errorf("got %v", err)
			}
			reader.agrees(t, d, name)
			if reader.agrees(t, d, name) {
				t.Error("reads go past the cache although the outcome is known")
			}
			if state, _ := reader.get(t, name); (outputOf(t, state, name+"a").N == 1) != test.committed {
				t.Errorf("the task is %s", state.Tasks[name+"a"].Output)
			}
		})
	}
}

func outputOf(t *testing.T, state *WorkflowState, id string) (out gated) {
	t.Helper()
	must(t, json.Unmarshal(state.Tasks[id].Output, &out))
	return out
}

// addr is host:port of the server.
func (d *database) addr(t *testing.T) string {
	t.Helper()
	config, err := pgxpool.ParseConfig(d.url)
	must(t, err)
	return net.JoinHostPort(config.ConnConfig.Host, strconv.Itoa(int(config.ConnConfig.Port)))
}
