package redisstate

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

func lists(t *testing.T, s *Store, workflow string, want int) {
	t.Helper()
	if n, err := s.Count(t.Context(), Scope{Workflow: workflow}); n != want || err != nil {
		t.Errorf("the workflow has %d configs, %v; want %d", n, err, want)
	}
}

func saves(t *testing.T, s *Store, entries ...Entry) {
	t.Helper()
	if _, err := s.Set(t.Context(), entries...); err != nil {
		t.Error(err)
	}
}

func TestIndex_lists_what_lives_for_ever(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, newServer(t)), quiet())
	saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1, TTL: math.MaxInt64})
	lists(t, s, "w", 1)
	if n, err := s.DeleteWorkflow(t.Context(), "w"); n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
}

// On Cluster the values tell, of which the head is read only.
func TestIndex_forgets_what_a_workflow_with_a_longer_id_took(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, newClient(t, server), quiet())
	s.ordered = false // as on Cluster
	saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1}, Entry{ID: "b", Workflow: "w", Value: 1})
	long := strings.Repeat("x", keys.MaxIDBytes)
	saves(t, s, Entry{ID: "a", Workflow: long, Value: 2})
	lists(t, s, "w", 1)
	lists(t, s, long, 1)
	if got := members(t, server.Addr(), s.space.WorkflowIndex("w")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the index lists %v", got)
	}
}

// around calls functions before and after a transaction that has a ZREM.
type around struct{ before, after func() }

func (around) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (around) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h around) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() != "zrem" {
				continue
			}
			h.before()
			defer h.after()
		}
		return next(ctx, cmds)
	}
}

// A config is saved at the very moment in which its id is pruned.
func TestIndex_keeps_what_is_saved_while_it_is_pruned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ttl   time.Duration
		other bool // of which the index keeps listing something
		away  time.Duration
		pass  time.Duration
	}{
		"":                                 {ttl: time.Hour, other: true},
		"and Redis goes away for a moment": {ttl: time.Hour, other: true, away: 250 * time.Millisecond},
		"for as long as the config lives":  {ttl: 1000 * time.Hour, pass: 30 * time.Hour},
		"for as long as it lives, beside what goes first": {ttl: 1000 * time.Hour, other: true, pass: 30 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			writer := newStore(t, newClient(t, server), quiet())
			saves(t, writer, Entry{ID: "a", Workflow: "w", Value: 1})
			want := 1
			if test.other {
				saves(t, writer, Entry{ID: "b", Workflow: "w", Value: 1, TTL: 1000 * time.Hour})
				want = 2
			}
			server.Del(writer.space.Config("a"))
			client := newClient(t, server)
			back := make(chan struct{})
			client.AddHook(around{
				before: func() { saves(t, writer, Entry{ID: "a", Workflow: "w", Value: 2, TTL: test.ttl}) },
				after: func() {
					if test.away == 0 {
						close(back)
						return
					}
					server.SetError("LOADING Redis is loading the dataset in memory")
					time.AfterFunc(test.away, func() { server.SetError(""); close(back) })
				},
			})
			later := newStore(t, client, quiet())
			later.now = func() time.Time { return time.Now().Add(DefaultTTL) } // the index says no more that a is there
			_, _ = later.Count(t.Context(), Scope{Workflow: "w"})
			<-back
			server.FastForward(test.pass)
			lists(t, newStore(t, newClient(t, server), quiet()), "w", want)
		})
	}
}

// What was saved meanwhile is left, and does not keep from looking at the rest.
func TestIndex_is_pruned_behind_what_is_in_use(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, newClient(t, server), quiet())
	var used, all []string
	for n := range maxBatch + 1 {
		all = append(all, fmt.Sprint("m", n))
		if _, err := server.ZAdd("index", 1, all[n]); err != nil {
			t.Fatal(err)
		}
	}
	used = all[:maxBatch]
	err := s.pruneIndex(t.Context(), "index", all, func(members []string) (there []string, err error) {
		for _, m := range members {
			if slices.Contains(used, m) {
				there = append(there, m)
			}
		}
		return there, nil
	})
	left, _ := server.ZMembers("index")
	if err != nil || len(left) != maxBatch || slices.Contains(left, all[maxBatch]) {
		t.Errorf("%d of %d are left, %v", len(left), len(all), err)
	}
}

func TestDeleteWorkflow_leaves_what_it_cannot_read(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, newClient(t, server), quiet())
	saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1})
	saves(t, s, Entry{ID: "a", Workflow: "x", Value: 1})
	name := s.space.Config("a")
	raw, err := server.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Set(name, newer(raw, 0, 0x40)); err != nil { // moved, by a newer release
		t.Fatal(err)
	}
	if n, err := s.DeleteWorkflow(t.Context(), "w"); n != 0 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if !server.Exists(name) {
		t.Error("another workflow's config is gone")
	}
}
