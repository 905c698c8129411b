//go:build integration

package pgstate

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/pgtest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

// A commit of a task whose output has a gate waits for that advisory lock, and one
// that is late sleeps so many seconds.
const gates = `
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.output ? 'gate' THEN PERFORM pg_advisory_xact_lock((NEW.output->>'gate')::bigint); END IF;
	IF NEW.output ? 'late' THEN PERFORM pg_sleep((NEW.output->>'late')::float); END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT OR UPDATE ON task_states
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate();`

// database is a PostgreSQL server with the tables.
type database struct {
	url   string
	pool  *pgxpool.Pool
	plain *Postgres
}

func startDatabase(t *testing.T) *database {
	t.Helper()
	server := pgtest.Start(t, "max_connections=400")
	d := &database{url: server.URL()}
	d.pool = d.connect(t)
	d.plain = NewPostgres(d.pool)
	if _, err := d.pool.Exec(t.Context(), Schema+gates); err != nil {
		t.Fatal(err)
	}
	return d
}

// connect makes a pool that is closed with the test.
func (d *database) connect(t *testing.T, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	pool, err := connectTo(t.Context(), d.url, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func connectTo(ctx context.Context, url string, change ...func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 6
	for _, c := range change {
		c(config)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// through lets a pool connect by a proxy.
func through(proxy *faultproxy.Proxy) func(*pgxpool.Config) {
	to := netip.MustParseAddrPort(proxy.Addr())
	return func(c *pgxpool.Config) { c.ConnConfig.Host, c.ConnConfig.Port = to.Addr().String(), to.Port() }
}

// process is a Cached with a pool and a client of its own, as a process has them.
type process struct {
	*Cached
	loads    atomic.Int64
	registry *prometheus.Registry
	mu       sync.Mutex
	slowest  time.Duration // of the loads
}

// start makes one on a client, with a pool of its own.
func (d *database) start(t *testing.T, client redis.UniversalClient, o Options, change ...func(*pgxpool.Config)) *process {
	t.Helper()
	p := &process{registry: prometheus.NewRegistry()}
	o.Redis = quiet()
	o.Redis.Registerer = p.registry
	pool := d.connect(t, change...)
	load := NewPostgres(pool).GetState
	cached, err := newCached(pool, func(ctx context.Context, id string) (*WorkflowState, error) {
		p.loads.Add(1)
		began := time.Now()
		defer func() {
			p.mu.Lock()
			p.slowest = max(p.slowest, time.Since(began))
			p.mu.Unlock()
		}()
		return load(ctx, id)
	}, client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cached.Close() })
	p.Cached = cached
	return p
}

// count is a counter of the cache's, by the value of its label.
func (p *process) count(t *testing.T, label string) (total float64) {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				if family.GetName() == "redis_state_cache_total" && pair.GetValue() == label {
					total += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return total
}

// dial connects to Redis with time-outs that let a test see many faults.
func dial(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	o := quiet()
	o.URL, o.MaxRetries = url, -1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Second, time.Second, time.Second, time.Second
	conn, err := redisstate.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.Client()
}

// task is one of a workflow, with an output.
func task(workflow, id string, output any) *TaskState {
	text, err := json.Marshal(output)
	if err != nil {
		panic(err)
	}
	return &TaskState{TaskExecID: id, TaskID: "task", WorkflowExecID: workflow, WorkflowID: "definition", Component: "task", Status: StatusRunning, Output: text}
}

// seed makes a workflow with tasks that have no output.
func (d *database) seed(t *testing.T, workflow string, tasks ...string) {
	t.Helper()
	must(t, d.plain.UpsertState(t.Context(), &WorkflowState{WorkflowExecID: workflow, WorkflowID: "definition", Status: StatusRunning}))
	for _, id := range tasks {
		must(t, d.plain.UpsertTask(t.Context(), task(workflow, id, struct{}{})))
	}
}

// text is a state in a form to compare.
func text(t *testing.T, s *WorkflowState) string {
	t.Helper()
	all, err := json.Marshal(struct {
		Head  *WorkflowState
		Tasks map[string]*TaskState
	}{s, s.Tasks})
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// get reads a state and tells whether it came from PostgreSQL.
func (p *process) get(t *testing.T, workflow string) (state *WorkflowState, loaded bool) {
	t.Helper()
	before := p.loads.Load()
	state, err := p.GetState(t.Context(), workflow)
	must(t, err)
	return state, p.loads.Load() > before
}

// agrees fails if a process does not give what is in the database.
func (p *process) agrees(t *testing.T, d *database, workflow string) (loaded bool) {
	t.Helper()
	want, err := d.plain.GetState(t.Context(), workflow)
	must(t, err)
	got, loaded := p.get(t, workflow)
	if text(t, got) != text(t, want) {
		t.Errorf("a read gave\n%s; in the database is\n%s", text(t, got), text(t, want))
	}
	return loaded
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what comes by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !waited(context.WithoutCancel(t.Context()), done) {
		t.Errorf("waited in vain for %s", what)
	}
}

// waited says whether it came, within ctx and a minute.
func waited(ctx context.Context, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// setOutput changes a task's output.
func setOutput(output any) func(*TaskState) error {
	return func(s *TaskState) (err error) {
		s.Output, err = json.Marshal(output)
		return err
	}
}

var _ pgx.QueryTracer = (*atCommit)(nil)

// atCommit calls a function before COMMIT is sent, or after its answer.
type atCommit struct{ before, after func() }

func (c *atCommit) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if q.SQL != "commit" {
		return ctx
	}
	if c.before != nil {
		c.before()
	}
	return context.WithValue(ctx, c, true)
}

func (c *atCommit) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if c.after != nil && ctx.Value(c) != nil {
		c.after()
	}
}

func traced(by *atCommit) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.Tracer = by }
}
