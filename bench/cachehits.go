//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/examples/pgstate"
	"github.com/compozy/temporal-redis/internal/pgtest"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// cacheRows are about how often nobody has to ask the database.
func cacheRows() []harness.Row {
	const (
		what = "part of reads that did not go to the source of truth, from a cold start. 4 workers, each with its own connections, store and caches; 1,000 workflows, 200 in flight, " +
			"of 8 tasks each, every task on some worker: it reads its config by ref (Zipf s=1.1 of 10,000 of 2 KB) and the workflow's state twice (examples/pgstate on PostgreSQL), " +
			"and writes its own state twice. "
		theirs = ". Theirs: the part that the memory of the same workers answered, without Redis"
	)
	return []harness.Row{
		{
			Key: "cache_hit_rate", Group: groupCache, Bar: harness.AtLeast(0.95),
			How: what + "A workflow begins by saving the configs of its tasks, as PinConfigs does" + theirs,
			Run: hits{saves: true}.run,
		},
		{
			Key: "cache_hit_rate_unsaved", Group: groupCache,
			How: what + "Nobody saves configs: one that Redis does not have is loaded from Source, which is a miss" + theirs,
			Run: hits{}.run,
		},
	}
}

// hits is one of cacheRows.
type hits struct{ saves bool }

const (
	hitWorkers    = 4
	hitConfigs    = 10_000
	hitWorkflows  = 1000
	hitInFlight   = 200
	tasksOf       = 8
	zipfExponent  = 1.1
	quickOfConfig = 100
)

// hitSample is one round: what was read, and who answered.
type hitSample struct {
	Near         float64 `json:"configs_near"`
	Redis        float64 `json:"configs_redis"`
	ConfigMisses float64 `json:"configs_missed"`
	States       float64 `json:"states_redis"`
	StateMisses  float64 `json:"states_missed"`
}

func (s hitSample) reads() float64 {
	return s.Near + s.Redis + s.ConfigMisses + s.States + s.StateMisses
}
func (s hitSample) rate() float64  { return (s.Near + s.Redis + s.States) / s.reads() }
func (s hitSample) alone() float64 { return s.Near / s.reads() }

func (h hits) run(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	configs := taskconfig.Make(lab.Rand(), lab.Size(hitConfigs, quickOfConfig))
	postgres, err := pgtest.Run(ctx, "fsync=off", "max_connections=100")
	if err != nil {
		return harness.Outcome{}, err
	}
	lab.Defer(func() error { postgres.Close(); return nil })
	pool, err := pgxpool.New(ctx, postgres.URL()+"&pool_max_conns=16")
	if err != nil {
		return harness.Outcome{}, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	lab.Defer(func() error { pool.Close(); return nil })
	if _, err := pool.Exec(ctx, pgstate.Schema); err != nil {
		return harness.Outcome{}, fmt.Errorf("make the tables: %w", err)
	}
	seeds := lab.Rand()
	var samples []hitSample
	for range lab.Rounds() {
		var s hitSample
		if err := lab.Within(func(lab *harness.Lab) error {
			s, err = h.round(ctx, lab, pool, configs, seeds.Uint64())
			return err
		}); err != nil {
			return harness.Outcome{}, err
		}
		samples = append(samples, s)
	}
	return harness.Parts(samples, hitSample.rate, hitSample.alone), nil
}

// configs are those that workflows choose from, and their pinned keys.
type configs struct {
	list []*taskconfig.Config
	keys []redisstate.Key
}

// hitWorker is one worker process.
type hitWorker struct {
	side
	configs redisstate.Typed[taskconfig.Config]
	states  pgstate.Repository
}

// hitRound runs all workflows on workers that know nothing yet, over an empty
// Redis.
func (h hits) round(ctx context.Context, lab *harness.Lab, pool *pgxpool.Pool, list []*taskconfig.Config, seed uint64) (hitSample, error) {
	server, err := lab.Redis(ctx)
	if err != nil {
		return hitSample{}, err
	}
	byID := make(map[string]*taskconfig.Config, len(list))
	for _, c := range list {
		byID[c.ID] = c
	}
	all := configs{list: list}
	all.keys, err = refsOf(ctx, lab, list)
	if err != nil {
		return hitSample{}, err
	}
	var workers []*hitWorker
	for range hitWorkers {
		w, err := startHitWorker(ctx, lab, server, pool, byID)
		if err != nil {
			return hitSample{}, err
		}
		workers = append(workers, w)
	}
	n := lab.Size(hitWorkflows, 10)
	errs := make([]error, n)
	free := make(chan struct{}, hitInFlight)
	var running sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			errs[i] = h.workflow(ctx, r, fmt.Sprintf("run-%x-%d", seed, i), workers, all)
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return hitSample{}, err
	}
	return counted(workers)
}

// refsOf are the pinned keys of configs, which a store of its own was given: the
// workers' Redis has none of them.
func refsOf(ctx context.Context, lab *harness.Lab, configs []*taskconfig.Config) (keys []redisstate.Key, err error) {
	err = lab.Within(func(lab *harness.Lab) error {
		server, err := lab.Redis(ctx)
		if err != nil {
			return err
		}
		store, err := openStore(ctx, lab, server, redisstate.Options{})
		if err != nil {
			return err
		}
		keys, err = saveOurs(ctx, store, configs)
		return err
	})
	return keys, err
}

func startHitWorker(ctx context.Context, lab *harness.Lab, server *redistest.Server, pool *pgxpool.Pool, configs map[string]*taskconfig.Config) (*hitWorker, error) {
	s, err := openSide(ctx, lab, server, redisstate.Options{
		Source: redisstate.SourceFunc(func(_ context.Context, key redisstate.Key) (redisstate.Entry, error) {
			return redisstate.Entry{ID: key.ID, Value: configs[key.ID]}, nil
		}),
	})
	if err != nil {
		return nil, err
	}
	states, err := pgstate.NewCached(pool, s.conn.Client(), pgstate.Options{Redis: s.options})
	if err != nil {
		return nil, err
	}
	lab.Defer(states.Close)
	return &hitWorker{side: s, configs: redisstate.For[taskconfig.Config](s.store), states: states}, nil
}

// workflow runs one: its tasks one after the other, each on some worker.
func (h hits) workflow(ctx context.Context, r *rand.Rand, id string, workers []*hitWorker, configs configs) error {
	which := rand.NewZipf(r, zipfExponent, 1, uint64(len(configs.keys)-1))
	some := func() *hitWorker { return workers[r.IntN(len(workers))] }
	workflow := &pgstate.WorkflowState{WorkflowExecID: id, WorkflowID: "definition", Status: pgstate.StatusRunning}
	if err := some().states.UpsertState(ctx, workflow); err != nil {
		return err
	}
	var entries []redisstate.Entry
	var tasks []redisstate.Key
	for range tasksOf {
		n := which.Uint64()
		tasks = append(tasks, configs.keys[n])
		entries = append(entries, redisstate.Entry{ID: configs.list[n].ID, Value: configs.list[n]})
	}
	if h.saves {
		if _, err := some().store.Set(ctx, entries...); err != nil {
			return err
		}
	}
	for i, key := range tasks {
		if err := taskOnce(ctx, some(), id, fmt.Sprintf("%s-task-%d", id, i), key); err != nil {
			return err
		}
	}
	return some().states.UpdateStatus(ctx, id, pgstate.StatusSuccess)
}

func taskOnce(ctx context.Context, w *hitWorker, workflow, id string, key redisstate.Key) error {
	config, _, err := w.configs.Get(ctx, key)
	if err != nil {
		return err
	}
	for _, status := range []pgstate.Status{pgstate.StatusRunning, pgstate.StatusSuccess} {
		if _, err := w.states.GetState(ctx, workflow); err != nil {
			return err
		}
		if err := w.states.UpsertTask(ctx, &pgstate.TaskState{
			TaskExecID: id, TaskID: config.ID, WorkflowExecID: workflow, WorkflowID: "definition", Component: "task", Status: status,
		}); err != nil {
			return err
		}
	}
	return nil
}

// counted sums up what the workers' metrics say.
func counted(workers []*hitWorker) (s hitSample, err error) {
	into := map[string]*float64{
		"redis_cache_hits near": &s.Near, "redis_cache_hits redis": &s.Redis, "redis_cache_misses redis": &s.ConfigMisses,
		"redis_cache_hits state": &s.States, "redis_cache_misses state": &s.StateMisses,
	}
	for _, w := range workers {
		families, err := w.registry.Gather()
		if err != nil {
			return s, fmt.Errorf("metrics: %w", err)
		}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				for _, label := range metric.GetLabel() {
					if sum := into[family.GetName()+" "+label.GetValue()]; sum != nil {
						*sum += metric.GetCounter().GetValue()
					}
				}
			}
		}
	}
	if s.Near == 0 || s.Redis == 0 || s.States == 0 {
		return s, fmt.Errorf("some of the counts are nothing, which cannot be: %+v", s)
	}
	return s, nil
}
