//go:build integration

package redisstate_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

// The history of one id is that of a register: Set writes, Delete clears, Get
// by id reads. What happened to an operation that told an outage is not known:
// it may have been executed at any time after it was called, or never. With
// retries of the client an operation may also have been executed twice while it
// ran, with one of somebody else in between; that is all that retries change.

type registerCall struct {
	id    string
	op    string // set, delete, get
	value int    // of set
	again bool   // the client may have repeated the command; or not
}

type registerReply struct {
	value   int  // of get; 0 is nothing
	unknown bool // whether it was executed
}

// register is the model. Its state is the value, 0 for none.
var register = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := map[string][]porcupine.Operation{}
		for _, op := range history {
			id := op.Input.(registerCall).id
			byID[id] = append(byID[id], op)
		}
		return slices.Collect(maps.Values(byID))
	},
	Init: func() []any { return []any{0} },
	Step: func(state, input, output any) []any {
		call, reply := input.(registerCall), output.(registerReply)
		if call.op == "get" {
			if reply.value == state.(int) {
				return []any{state}
			}
			return nil
		}
		if call.again {
			return []any{call.value, state}
		}
		return []any{call.value}
	},
}).ToModel()

// registerStore is what the check needs of a store.
type registerStore interface {
	Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error)
	Set(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error)
	Delete(ctx context.Context, keys ...redisstate.Key) (int, error)
}

// retryPause is the shortest pause before the client repeats a command.
const retryPause = 8 * time.Millisecond

// history runs clients with a store each on a few ids and records what they saw.
// unknown counts the operations whose outcome nobody knows.
func history(t *testing.T, stores []registerStore, rounds, retries int, seed uint64) (ops []porcupine.Operation, unknown int) {
	t.Helper()
	start := time.Now()
	now := func() int64 { return int64(time.Since(start)) }
	var mu sync.Mutex
	var all sync.WaitGroup
	for client, store := range stores {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(client)))
			for n := range rounds {
				call := registerCall{id: "r" + strconv.Itoa(random.IntN(4))}
				var reply registerReply
				var err error
				called := now()
				switch draw := random.IntN(10); {
				case draw < 4:
					call.op, call.value = "set", client*1_000_000+n+1
					_, err = store.Set(t.Context(), redisstate.Entry{ID: call.id, Workflow: "wf", Value: call.value})
				case draw < 5:
					call.op = "delete"
					_, err = store.Delete(t.Context(), redisstate.ID(call.id))
				default:
					call.op = "get"
					var config redisstate.Config
					if config, err = store.Get(t.Context(), redisstate.ID(call.id)); err == nil {
						reply.value, err = strconv.Atoi(string(config.JSON()))
					} else if errors.Is(err, redisstate.ErrNotFound) {
						err = nil
					}
				}
				returned := now()
				if err != nil {
					if !errors.Is(err, redisstate.ErrUnavailable) {
						t.Errorf("%s gave %v", call.op, err)
					}
					if call.op == "get" {
						continue // it changed nothing and tells nothing
					}
					reply.unknown = true
				}
				mu.Lock()
				if reply.unknown {
					unknown++
				}
				ops = append(ops, porcupine.Operation{ClientId: client, Input: call, Call: called, Output: reply, Return: returned})
				mu.Unlock()
			}
		})
	}
	all.Wait()
	// Executed at any time from its call on, or never: which is the same as after
	// the last read.
	end := now() + 1
	seen := make(map[int]bool)
	for _, op := range ops {
		if op.Input.(registerCall).op == "get" {
			seen[op.Output.(registerReply).value] = true
		}
	}
	recorded := ops
	ops = make([]porcupine.Operation, 0, len(recorded))
	for _, op := range recorded {
		call := op.Input.(registerCall)
		// A value is written once. If nobody read it, a write that may or may not
		// have happened can be left out of any order, and put behind any: without it
		// the check finds the same, in far less time.
		guess := call.op != "set" || seen[call.value]
		if op.Output.(registerReply).unknown {
			if !guess {
				continue
			}
			op.Return = end
			op.ClientId = len(stores) + len(ops) // its client went on
		}
		ops = append(ops, op)
		if guess && call.op != "get" && op.Return-op.Call >= int64(retryPause) {
			call.again = true
			for range retries {
				ops = append(ops, porcupine.Operation{ClientId: len(stores) + len(ops), Input: call, Call: op.Call, Output: registerReply{}, Return: op.Return})
			}
		}
	}
	return ops, unknown
}

func linearizable(t *testing.T, ops []porcupine.Operation) bool {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(register, ops, time.Minute) {
	case porcupine.Ok:
		return true
	case porcupine.Illegal:
		return false
	default:
		t.Fatal("the check of the history did not end in a minute")
		return false
	}
}

func TestStore_is_a_register_for_each_id_although_replies_are_lost(t *testing.T) {
	t.Parallel()
	for name, retries := range map[string]int{"with the client's retries": redisstate.DefaultMaxRetries, "without": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const seed = 1
			server := redistest.Start(t)
			proxy := faultproxy.Start(t, server.Addr())
			var stores []registerStore
			for range 5 {
				stores = append(stores, open(t, dial(t, redisstate.Options{URL: "redis://" + proxy.Addr(), MaxRetries: cmp.Or(retries, -1)})))
			}
			proxy.Random(seed, faultproxy.Chaos{LoseReply: 0.08, ResetCommand: 0.04, Delay: 0.2, MaxDelay: 2 * time.Millisecond})
			ops, unknown := history(t, stores, 120, retries, seed)
			counts := proxy.Counts()
			t.Logf("%d operations, %d of unknown outcome, %d replies lost, %d commands reset", len(ops), unknown, counts.RepliesLost, counts.Resets)
			if counts.RepliesLost < 10 || (retries == 0 && unknown < 10) {
				t.Error("too few faults: this showed nothing")
			}
			if !linearizable(t, ops) {
				t.Error("the history is not that of a register")
			}
		})
	}
}

// stale is a store with a cache by id that nobody invalidates.
type stale struct {
	*redisstate.Store
	cache sync.Map // id -> Config
}

func (s *stale) Get(ctx context.Context, key redisstate.Key) (redisstate.Config, error) {
	if config, cached := s.cache.Load(key.ID); cached {
		return config.(redisstate.Config), nil
	}
	config, err := s.Store.Get(ctx, key)
	if err == nil {
		s.cache.Store(key.ID, config)
	}
	return config, err
}

// forgetful is a store that says yes before it wrote.
type forgetful struct{ *redisstate.Store }

func (f forgetful) Set(ctx context.Context, entries ...redisstate.Entry) ([]redisstate.Ref, error) {
	if rand.IntN(4) == 0 {
		return nil, nil
	}
	return f.Store.Set(ctx, entries...)
}

func TestRegister_check_rejects_broken_stores(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, broken := range map[string]func(*redisstate.Store) registerStore{
		"a cache by id that is stale":           func(s *redisstate.Store) registerStore { return &stale{Store: s} },
		"a write that is acknowledged and lost": func(s *redisstate.Store) registerStore { return forgetful{s} },
	} {
		client := server.Client(t)
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var stores []registerStore
		for range 4 {
			stores = append(stores, broken(open(t, client)))
		}
		if ops, _ := history(t, stores, 60, 0, 2); linearizable(t, ops) {
			t.Errorf("%s was taken for a register", name)
		}
	}
}
