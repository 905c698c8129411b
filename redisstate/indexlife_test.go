package redisstate

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// An index lives as long as the longest of what it lists, whatever is done later.
func TestIndex_lives_as_long_as_what_it_lists(t *testing.T) {
	t.Parallel()
	const long, short = 20 * time.Hour, time.Hour
	for name, act := range map[string]func(t *testing.T, s *Store){
		"and another is extended for less": func(t *testing.T, s *Store) {
			saves(t, s, Entry{ID: "b", Workflow: "w", Value: 1, TTL: time.Minute})
			if n, err := s.Extend(t.Context(), short, ID("a"), ID("b")); n != 2 || err != nil {
				t.Errorf("extended %d, %v", n, err)
			}
		},
		"and the workflow is extended for less": func(t *testing.T, s *Store) {
			if n, err := s.ExtendWorkflow(t.Context(), "w", short); n != 1 || err != nil {
				t.Errorf("extended %d, %v", n, err)
			}
		},
		"and another is saved for less": func(t *testing.T, s *Store) {
			saves(t, s, Entry{ID: "b", Workflow: "w", Value: 1, TTL: short})
		},
		"and it is saved again for less": func(t *testing.T, s *Store) {
			saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1, TTL: short})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			s := newStore(t, newClient(t, server), quiet())
			saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1, TTL: long})
			act(t, s)
			if life := server.TTL(s.space.WorkflowIndex("w")); life < long {
				t.Errorf("the index lives for %v, what it lists for %v", life, server.TTL(s.space.Config("a")))
			}
			reader := newStore(t, newClient(t, server), quiet())
			if life := server.TTL(s.space.Config("a")); life < long {
				t.Errorf("the config lives for %v; want %v", life, long)
			}
			server.FastForward(long - time.Second)
			aheadBy(reader, long-time.Second)
			lists(t, reader, "w", 1)
		})
	}
}

// A config that moves with the life that somebody gave it takes that along.
func TestIndex_of_the_workflow_that_a_config_moves_to_lives_as_long(t *testing.T) {
	t.Parallel()
	const long, short = 20 * time.Hour, time.Hour
	for name, test := range map[string]struct {
		extended, ttl, want time.Duration
	}{
		"as it was extended":         {extended: long, ttl: short, want: long},
		"as it is saved for":         {ttl: long, want: long},
		"as it was saved at first":   {ttl: time.Minute, want: short},
		"as it is saved and no more": {extended: 2 * time.Hour, ttl: long, want: long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			s := newStore(t, newClient(t, server), quiet())
			saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1, TTL: short})
			if test.extended > 0 {
				if n, err := s.Extend(t.Context(), test.extended, ID("a")); n != 1 || err != nil {
					t.Errorf("extended %d, %v", n, err)
				}
			}
			saves(t, s, Entry{ID: "a", Workflow: "x", Value: 1, TTL: test.ttl})
			if life := server.TTL(s.space.Config("a")); life != test.want {
				t.Errorf("it lives for %v; want %v", life, test.want)
			}
			if life := server.TTL(s.space.WorkflowIndex("x")); life < test.want {
				t.Errorf("the index that lists it lives for %v; want %v", life, test.want)
			}
			lists(t, s, "w", 0)
			lists(t, s, "x", 1)
		})
	}
}

// twice answers the second question for a part of an index with what the first one
// gave, too: a life that became longer in between is in both.
type twice struct{}

func (twice) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		var first *redis.StringSliceCmd
		for _, cmd := range cmds {
			part, ok := cmd.(*redis.StringSliceCmd)
			switch {
			case !ok || cmd.Name() != "zrangebyscore":
			case first == nil:
				first = part
			default:
				part.SetVal(append(part.Val(), first.Val()...))
			}
		}
		return err
	}
}

func TestScan_lists_a_config_once_whose_life_becomes_longer_meanwhile(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	saves(t, newStore(t, newClient(t, server), quiet()),
		Entry{ID: "a", Workflow: "w", Value: 1, TTL: time.Hour}, Entry{ID: "b", Workflow: "w", Value: 1})
	client := newClient(t, server)
	client.AddHook(twice{})
	reader := newStore(t, client, quiet())
	aheadBy(reader, 2*time.Hour)
	seen := make(map[Key]int)
	for key, err := range reader.Scan(t.Context(), Scope{Workflow: "w"}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[key]++
	}
	if len(seen) != 2 || seen[ID("a")] != 1 || seen[ID("b")] != 1 {
		t.Errorf("it listed %v; want each once", seen)
	}
}
