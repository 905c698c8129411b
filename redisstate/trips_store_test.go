package redisstate

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/trips"
)

// Many at once, on a real store: each gets its own.
func TestStore_gives_each_of_many_callers_its_own(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.NearCacheBytes = -1
	s := newStore(t, newClient(t, newServer(t)), o)
	var all sync.WaitGroup
	for n := range 64 {
		all.Go(func() {
			id, workflow := string(rune('a'+n%32)), string(rune('A'+n%8))
			refs, err := s.Set(t.Context(), Entry{ID: id, Workflow: workflow, Value: n})
			if err != nil {
				t.Error(err)
				return
			}
			config, err := s.Get(t.Context(), refs[0].Key())
			if err != nil || string(config.JSON()) != strconv.Itoa(n) {
				t.Errorf("%s is %s, %v; want %d", id, config.JSON(), err, n)
			}
			if _, err := s.Get(t.Context(), ID("none")); !errors.Is(err, ErrNotFound) {
				t.Errorf("what is not there gives %v", err)
			}
		})
	}
	all.Wait()
	if n, err := s.Count(t.Context(), Scope{}); n != 32 || err != nil {
		t.Errorf("there are %d, %v; want 32", n, err)
	}
}

func TestSet_fails_only_for_the_workflow_whose_index_is_something_else(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, newClient(t, server), quiet())
	if err := server.Set(s.space.WorkflowIndex("bad"), "x"); err != nil {
		t.Fatal(err)
	}
	good := &writing{ref: Ref{ID: "a"}, key: s.space.Config("a"), raw: []byte("x"), new: value{ttl: time.Hour, workflow: "good"}}
	bad := &writing{ref: Ref{ID: "b"}, key: s.space.Config("b"), raw: []byte("x"), new: value{ttl: time.Hour, workflow: "bad"}}
	if err := s.createAll(t.Context(), [][]*writing{{good}, {bad}}); err != nil {
		t.Fatal(err)
	}
	if err := indexErrors([]*writing{good}); err != nil {
		t.Errorf("the good one got %v", err)
	}
	if err := indexErrors([]*writing{bad}); err == nil {
		t.Error("the bad one got no error")
	}
}

// unmarked fails pipelines without telling their commands.
type unmarked struct{}

func (unmarked) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (unmarked) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (unmarked) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return io.ErrUnexpectedEOF }
}

func TestFetches_take_no_failed_pipeline_for_an_empty_value(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	client.AddHook(unmarked{})
	all := []*fetching{{name: "a"}, {name: "b"}}
	newStore(t, client, quiet()).fetchAll(t.Context(), all)
	for _, f := range all {
		if !errors.Is(f.err, io.ErrUnexpectedEOF) {
			t.Errorf("%s gave %q, %v", f.name, f.raw, f.err)
		}
	}
}

// garbling makes Redis refuse what is saved under a name when it is queued.
type garbling struct{ name string }

func (garbling) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (garbling) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (g garbling) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if args := cmd.Args(); cmd.Name() == "set" && args[1] == g.name {
				args[len(args)-1] = "nonsense"
			}
		}
		return next(ctx, cmds)
	}
}

func TestSet_fails_only_for_who_saves_what_Redis_refuses(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	s := newStore(t, client, quiet())
	client.AddHook(garbling{name: s.space.Config("bad")})
	ids := []string{"a", "bad", "b"}
	errs := make([]error, len(ids))
	var calls []func()
	for i, id := range ids {
		calls = append(calls, func() { _, errs[i] = s.Set(t.Context(), Entry{ID: id, Workflow: "of " + id, Value: id}) })
	}
	s.creates.Together(calls...)
	for i, id := range ids {
		_, readErr := s.Get(t.Context(), ID(id))
		if id != "bad" {
			if errs[i] != nil || readErr != nil {
				t.Errorf("%s: saving gave %v, reading %v", id, errs[i], readErr)
			}
			continue
		}
		if errs[i] == nil || !strings.Contains(errs[i].Error(), "syntax error") || !errors.Is(readErr, ErrNotFound) {
			t.Errorf("%s: saving gave %v, reading %v; want its own error", id, errs[i], readErr)
		}
	}
}

// stalling stops the replies of a pipeline after some of them, and before that
// of a name, which it also does when that is read alone.
type stalling struct {
	answered      int
	name          string
	alone, shared *atomic.Int64 // commands
}

func (stalling) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h stalling) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "get" {
			return next(ctx, cmd)
		}
		h.alone.Add(1)
		if cmd.Args()[1] == h.name {
			cmd.SetErr(os.ErrDeadlineExceeded)
			return os.ErrDeadlineExceeded
		}
		return next(ctx, cmd)
	}
}

func (h stalling) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "get" { // it is the client's own
			return next(ctx, cmds)
		}
		h.shared.Add(int64(len(cmds)))
		left := h.answered
		for _, cmd := range cmds {
			if left == 0 || cmd.Args()[1] == h.name {
				cmd.SetErr(os.ErrDeadlineExceeded)
				continue
			}
			left--
			if err := next(ctx, []redis.Cmder{cmd}); err != nil {
				return err
			}
		}
		return os.ErrDeadlineExceeded
	}
}

func TestGet_is_not_failed_by_a_value_of_others_that_stalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ids           []string
		answered      int
		fail          []string
		shared, alone int64
	}{
		"one stalls":           {[]string{"a", "b", "c", "slow"}, 1, []string{"slow"}, 4, 3},
		"only one is left":     {[]string{"a", "b", "c", "slow"}, 3, []string{"slow"}, 4, 1},
		"nothing was answered": {[]string{"a", "b", "slow"}, 0, []string{"a", "b", "slow"}, 3, 0},
		"all want the same":    {[]string{"a", "a", "a"}, 0, nil, 0, 1},
		"some want the same":   {[]string{"a", "a", "b", "slow"}, 1, []string{"slow"}, 3, -1}, // a or b was answered
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, o := newServer(t), quiet()
			o.NearCacheBytes = -1
			for _, id := range test.ids {
				if _, err := newStore(t, newClient(t, server), quiet()).Set(t.Context(), Entry{ID: id, Value: id}); err != nil {
					t.Fatal(err)
				}
			}
			client := newClient(t, server)
			s := newStore(t, client, o)
			var alone, shared atomic.Int64
			client.AddHook(stalling{answered: test.answered, name: s.space.Config("slow"), alone: &alone, shared: &shared})
			var calls []func()
			for _, id := range test.ids {
				calls = append(calls, func() {
					config, err := s.Get(t.Context(), ID(id))
					if slices.Contains(test.fail, id) {
						if !errors.Is(err, ErrUnavailable) {
							t.Errorf("%s gave %v; want ErrUnavailable", id, err)
						}
					} else if err != nil || string(config.JSON()) != strconv.Quote(id) {
						t.Errorf("%s is %s, %v", id, config.JSON(), err)
					}
				})
			}
			s.fetches.Together(calls...)
			if shared.Load() != test.shared {
				t.Errorf("%d were read on the trip; want %d", shared.Load(), test.shared)
			}
			if test.alone >= 0 && alone.Load() != test.alone {
				t.Errorf("%d were read alone; want %d", alone.Load(), test.alone)
			}
		})
	}
}

func TestFetches_expect_a_value_as_large_as_the_largest_of_late(t *testing.T) {
	t.Parallel()
	small, missing := slices.Repeat([]int{100}, 10), make([]int, 1000)
	for name, test := range map[string]struct {
		read     []int
		min, max int64
	}{
		"nothing yet":         {nil, 0, 0},
		"a large one":         {[]int{100, 1 << 20}, 1 << 20, 1 << 20},
		"a few smaller since": {append([]int{1 << 20}, small...), 1 << 19, 1<<20 - 1},
		"many smaller since":  {append([]int{1 << 20}, slices.Repeat(small, 100)...), 100, 200},
		"misses since":        {append([]int{1 << 20}, missing...), 1 << 20, 1 << 20},
	} {
		var l recentLargest
		for _, n := range test.read {
			l.note(&fetching{raw: make([]byte, n)})
		}
		if got := l.bytes.Load(); got < test.min || got > test.max {
			t.Errorf("%s: it is %d; want %d to %d", name, got, test.min, test.max)
		}
	}
}

// gated answers when the gate is opened, unless the caller gives up before.
type gated struct {
	canned
	gate chan struct{}
}

func (g gated) pass(ctx context.Context) error {
	select {
	case <-g.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gated) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.pass(ctx); err != nil {
			cmd.SetErr(err)
			return err
		}
		return g.canned.ProcessHook(next)(ctx, cmd)
	}
}

func (g gated) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := g.pass(ctx); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return g.canned.ProcessPipelineHook(next)(ctx, cmds)
	}
}

func TestClose_ends_shared_reads_and_saves(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *Store, int) error{
		"read by id": func(ctx context.Context, s *Store, n int) error {
			_, err := s.Get(ctx, ID(strconv.Itoa(n)))
			return err
		},
		"read by ref": func(ctx context.Context, s *Store, n int) error {
			_, err := s.Get(ctx, Key{strconv.Itoa(n), sum{}.digest()})
			return err
		},
		"save": func(ctx context.Context, s *Store, n int) error {
			_, err := s.Set(ctx, Entry{ID: strconv.Itoa(n), Value: n})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{}) // not in the bubble: it looks up a name
			defer func() { _ = client.Close() }()
			synctest.Test(t, func(t *testing.T) {
				o := quiet()
				o.NearCacheBytes, o.FixedTTL = -1, true
				gate := make(chan struct{})
				client.AddHook(gated{gate: gate})
				s := newStore(t, client, o)
				begin := func(n int) <-chan error {
					err := make(chan error, 1)
					go func() { err <- call(t.Context(), s, n) }()
					synctest.Wait()
					return err
				}
				var alone []<-chan error
				for n := range maxTrips {
					alone = append(alone, begin(n))
				}
				aboard := begin(maxTrips)
				pass()
				waiting := begin(maxTrips + 1)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				for who, ended := range map[string]<-chan error{"aboard": aboard, "waiting": waiting} {
					err := <-ended
					if !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnavailable) || ends(err) || !strings.Contains(err.Error(), family) {
						t.Errorf("who was %s got %v", who, err)
					}
				}
				close(gate)
				for _, ended := range alone {
					<-ended
				}
			})
		})
	}
}

// pass waits until those who wait for all trips get one of their own.
func pass() {
	<-time.After(trips.MaxWait)
	synctest.Wait()
}
