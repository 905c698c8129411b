//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/redis/rueidis"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/bench/internal/taskconfig"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// staleRows are about how long a worker sees what another one overwrote.
func staleRows() []harness.Row {
	return []harness.Row{{
		Key: "near_stale_p99_vs_rueidis", Group: groupCache, Bar: harness.AtMost(1),
		How: "p99 of the time from the return of a write to the moment when another client's cached reads give it, a 2 KB config overwritten each time; " +
			"ours: Store.Set, and Store.Get by id with NearCacheByKey; theirs: SET EX, and rueidis DoCache GET",
		Run: runStale,
	}}
}

// watched is one side: a write, and a cached read by another client that tells
// whether it gives that write.
type watched struct {
	write func(ctx context.Context, n int) error
	sees  func(ctx context.Context, n int) (bool, error)
}

func runStale(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	plan := lab.Plan(harness.Plan{Turn: 50, Pairs: 10})
	server, err := lab.Redis(ctx)
	if err != nil {
		return harness.Outcome{}, err
	}
	config := taskconfig.Make(lab.Rand(), 1)[0]
	ours, err := ourWatched(ctx, lab, server, *config)
	if err != nil {
		return harness.Outcome{}, err
	}
	theirs, err := rueidisWatched(ctx, lab, server, *config)
	if err != nil {
		return harness.Outcome{}, err
	}
	rounds, err := plan.CompareTimed(ctx, ours.once, theirs.once)
	if err != nil {
		return harness.Outcome{}, err
	}
	return harness.Tail(rounds), nil
}

// once writes and tells for how long what was there before was seen.
func (w watched) once(ctx context.Context, n int) (time.Duration, error) {
	if _, err := w.sees(ctx, n-1); err != nil { // it is cached, and is about to be overwritten
		return 0, err
	}
	type seen struct {
		at  time.Time
		err error
	}
	watching := make(chan struct{})
	first := make(chan seen, 1)
	go func() {
		close(watching)
		for {
			is, err := w.sees(ctx, n)
			if is || err != nil {
				first <- seen{time.Now(), err}
				return
			}
			runtime.Gosched()
		}
	}()
	<-watching
	if err := w.write(ctx, n); err != nil {
		return 0, err
	}
	returned := time.Now()
	s := <-first
	return max(s.at.Sub(returned), 0), s.err
}

// Versions are told apart by a field of the config.
func versioned(c taskconfig.Config, n int) *taskconfig.Config {
	c.Retries = n
	return &c
}

// beatsWithin bounds the wait until reads by id are answered from memory.
const beatsWithin = 10 * time.Second

func ourWatched(ctx context.Context, lab *harness.Lab, server *redistest.Server, c taskconfig.Config) (watched, error) {
	writer, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: poolSize})
	if err != nil {
		return watched{}, err
	}
	codec := new(countingCodec)
	reader, err := openStore(ctx, lab, server, redisstate.Options{PoolSize: poolSize, NearCacheByKey: true, Codec: codec})
	if err != nil {
		return watched{}, err
	}
	typed := redisstate.For[taskconfig.Config](reader)
	w := watched{
		write: func(ctx context.Context, n int) error {
			_, err := writer.Set(ctx, redisstate.Entry{ID: c.ID, Value: versioned(c, n)})
			return err
		},
		sees: func(ctx context.Context, n int) (bool, error) {
			got, _, err := typed.Get(ctx, redisstate.ID(c.ID))
			return err == nil && got.Retries == n, err
		},
	}
	return w, w.cached(ctx, func() (bool, error) { return inMemory(ctx, reader, server, lab, c.ID) })
}

// cached writes a first version and waits until reads of it are answered from
// memory.
func (w watched) cached(ctx context.Context, is func() (bool, error)) error {
	if err := w.write(ctx, -1); err != nil {
		return err
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for late := time.After(beatsWithin); ; {
		if yes, err := is(); yes || err != nil {
			return err
		}
		select {
		case <-late:
			return fmt.Errorf("reads by id were not answered from memory within %v", beatsWithin)
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inMemory tells whether a read of an id makes no GET.
func inMemory(ctx context.Context, store *redisstate.Store, server *redistest.Server, lab *harness.Lab, id string) (bool, error) {
	client := lab.GoRedis(server, 1)
	before, err := commandCalls(ctx, client, "get")
	if err != nil {
		before = 0 // none yet
	}
	if _, err := store.Get(ctx, redisstate.ID(id)); err != nil {
		return false, err
	}
	after, err := commandCalls(ctx, client, "get")
	return after == before && after > 0, err
}

func rueidisWatched(ctx context.Context, lab *harness.Lab, server *redistest.Server, c taskconfig.Config) (watched, error) {
	var clients [2]rueidis.Client
	for i := range clients {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}})
		if err != nil {
			return watched{}, err
		}
		lab.Defer(func() error { client.Close(); return nil })
		clients[i] = client
	}
	writer, reader, name := clients[0], clients[1], plainKey(c.ID)
	w := watched{
		write: func(ctx context.Context, n int) error {
			text, err := json.Marshal(versioned(c, n))
			if err != nil {
				return err
			}
			return writer.Do(ctx, writer.B().Set().Key(name).Value(string(text)).Ex(ttl).Build()).Error()
		},
		sees: func(ctx context.Context, n int) (bool, error) {
			var got taskconfig.Config
			err := reader.DoCache(ctx, reader.B().Get().Key(name).Cache(), time.Hour).DecodeJSON(&got)
			return err == nil && got.Retries == n, err
		},
	}
	return w, w.cached(ctx, func() (bool, error) {
		reply := reader.DoCache(ctx, reader.B().Get().Key(name).Cache(), time.Hour)
		return reply.IsCacheHit(), reply.Error()
	})
}
