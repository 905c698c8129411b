package redisstate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func TestScan_lists_a_config_for_the_workflow_that_it_is_of(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(t *testing.T, s *Store){
		"with other content":    func(t *testing.T, s *Store) { saves(t, s, Entry{ID: "a", Workflow: "x", Value: 2}) },
		"with the same content": func(t *testing.T, s *Store) { saves(t, s, Entry{ID: "a", Workflow: "x", Value: 1}) },
		"removed before": func(t *testing.T, s *Store) {
			if n, err := s.Delete(t.Context(), ID("a")); n != 1 || err != nil {
				t.Errorf("deleted %d, %v", n, err)
			}
			saves(t, s, Entry{ID: "a", Workflow: "x", Value: 2})
		},
		"its content removed before": func(t *testing.T, s *Store) {
			config, err := s.Get(t.Context(), ID("a"))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := s.Delete(t.Context(), config.Ref.Key()); n != 1 || err != nil {
				t.Errorf("deleted %d, %v", n, err)
			}
			saves(t, s, Entry{ID: "a", Workflow: "x", Value: 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, newClient(t, newServer(t)), quiet())
			saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1}, Entry{ID: "b", Workflow: "w", Value: 1})
			move(t, s)
			lists(t, s, "w", 1)
			lists(t, s, "x", 1)
		})
	}
}

// onOverwrite calls then before the first transaction that overwrites a config.
type onOverwrite struct {
	once sync.Once
	then func()
}

func (*onOverwrite) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*onOverwrite) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *onOverwrite) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if args := cmd.Args(); cmd.Name() == "set" && args[len(args)-1] == "get" && !slices.Contains(args, any("nx")) {
				h.once.Do(h.then)
			}
		}
		return next(ctx, cmds)
	}
}

func TestScan_lists_a_config_once_that_two_move_at_the_same_time(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	first := newStore(t, newClient(t, server), quiet())
	saves(t, first, Entry{ID: "a", Workflow: "w", Value: 1})
	client := newClient(t, server)
	client.AddHook(&onOverwrite{then: func() { saves(t, first, Entry{ID: "a", Workflow: "x", Value: 2}) }})
	saves(t, newStore(t, client, quiet()), Entry{ID: "a", Workflow: "y", Value: 3})
	lists(t, first, "w", 0)
	lists(t, first, "x", 0)
	lists(t, first, "y", 1)
}

// sent notes the commands that a client sends, pipelines in one line.
type sent struct {
	mu    sync.Mutex
	trips [][]string
}

func (*sent) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.note(cmd)
		return next(ctx, cmd)
	}
}

func (h *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.note(cmds...)
		return next(ctx, cmds)
	}
}

func (h *sent) note(cmds ...redis.Cmder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, cmd := range cmds {
		if name := cmd.Name(); name != "hello" && name != "client" {
			names = append(names, name)
		}
	}
	if names != nil {
		h.trips = append(h.trips, names)
	}
}

// aheadBy lets a store's clock be ahead of Redis'.
func aheadBy(s *Store, d time.Duration) { s.now = func() time.Time { return time.Now().Add(d) } }

func TestScan_asks_once_for_what_surely_lives_and_looks_at_the_rest(t *testing.T) {
	t.Parallel()
	list := []string{"zrangebyscore", "zrangebyscore"}
	for name, test := range map[string]struct {
		ahead time.Duration
		act   func(t *testing.T, s *Store)
		want  [][]string
	}{
		"it lives":                       {want: [][]string{list}},
		"it lives for longer than skew":  {ahead: time.Hour - clockSkew - time.Minute, want: [][]string{list}},
		"it lives for less than skew":    {ahead: time.Hour - clockSkew + time.Second, want: [][]string{list, {"getrange"}}},
		"a clock is ahead":               {ahead: 10 * time.Hour, want: [][]string{list, {"getrange"}}},
		"its life was extended":          {ahead: 10 * time.Hour, act: extend(ID("a")), want: [][]string{list}},
		"its workflow's life was":        {ahead: 10 * time.Hour, act: extendWorkflow, want: [][]string{list}},
		"then for less than it has":      {ahead: 10 * time.Hour, act: extendForLess, want: [][]string{list}},
		"it was saved again":             {ahead: 10 * time.Hour, act: save(1, 20*time.Hour), want: [][]string{list}},
		"it was saved again for shorter": {ahead: 50 * time.Minute, act: save(1, time.Minute), want: [][]string{list}},
		"it was overwritten":             {ahead: 10 * time.Hour, act: save(2, 20*time.Hour), want: [][]string{list}},
		"by what lives for less time":    {act: save(2, clockSkew-time.Second), want: [][]string{list, {"getrange"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			s := newStore(t, newClient(t, server), quiet())
			saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1, TTL: time.Hour})
			if test.act != nil {
				test.act(t, s)
			}
			client, hook := newClient(t, server), &sent{}
			client.AddHook(hook)
			reader := newStore(t, client, quiet())
			aheadBy(reader, test.ahead)
			lists(t, reader, "w", 1)
			if !slices.EqualFunc(hook.trips, test.want, slices.Equal) {
				t.Errorf("it sent %v; want %v", hook.trips, test.want)
			}
		})
	}
}

func extend(key Key) func(*testing.T, *Store) {
	return func(t *testing.T, s *Store) {
		if n, err := s.Extend(t.Context(), 20*time.Hour, key); n != 1 || err != nil {
			t.Errorf("extended %d, %v", n, err)
		}
	}
}

func extendWorkflow(t *testing.T, s *Store) {
	if n, err := s.ExtendWorkflow(t.Context(), "w", 20*time.Hour); n != 1 || err != nil {
		t.Errorf("extended %d, %v", n, err)
	}
}

func extendForLess(t *testing.T, s *Store) {
	extend(ID("a"))(t, s)
	if n, err := s.Extend(t.Context(), time.Hour, ID("a")); n != 1 || err != nil {
		t.Errorf("extended %d, %v", n, err)
	}
}

func save(value int, ttl time.Duration) func(*testing.T, *Store) {
	return func(t *testing.T, s *Store) { saves(t, s, Entry{ID: "a", Workflow: "w", Value: value, TTL: ttl}) }
}

func TestScan_lists_a_large_workflow_once(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ahead   time.Duration
		removed bool
		same    bool
		longer  bool
	}{
		"all live":                               {},
		"half may be gone":                       {ahead: time.Hour},
		"half is gone":                           {ahead: time.Hour, removed: true},
		"all may be gone":                        {ahead: DefaultTTL},
		"all may be, half is":                    {ahead: DefaultTTL, removed: true},
		"all end at the same moment":             {same: true},
		"lives become longer while it is walked": {longer: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			s := newStore(t, newClient(t, server), quiet())
			const half = scanCount + 1
			entries := make([]Entry, 2*half)
			for i := range entries {
				entries[i] = Entry{ID: fmt.Sprint(i), Workflow: "w", Value: i, TTL: time.Duration(i%2) * time.Hour}
			}
			saves(t, s, entries...)
			for i := range entries {
				if !test.same {
					break
				}
				if _, err := server.ZAdd(s.space.WorkflowIndex("w"), 1e18, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			if test.longer {
				s = newStore(t, afterPage(t, server, func() { longer(t, s, half) }), quiet())
			}
			aheadBy(s, test.ahead)
			want := 2 * half
			if test.removed {
				server.FastForward(time.Hour)
				want = half
			}
			seen := make(map[Key]bool)
			for key, err := range s.Scan(t.Context(), Scope{Workflow: "w"}) {
				if err != nil || seen[key] {
					t.Fatalf("%v again, %v", key, err)
				}
				seen[key] = true
			}
			if len(seen) != want {
				t.Errorf("it listed %d; want %d", len(seen), want)
			}
			if n := len(members(t, server.Addr(), s.space.WorkflowIndex("w"))); n != want {
				t.Errorf("the index lists %d; want %d", n, want)
			}
		})
	}
}

// afterPage is a client that calls then after the first page of a large index.
func afterPage(t *testing.T, server *miniredis.Miniredis, then func()) *redis.Client {
	client := newClient(t, server)
	client.AddHook(&afterCommand{name: "zrangebyscore", then: then})
	return client
}

// afterCommand calls then after the first command of that name.
type afterCommand struct {
	name string
	once sync.Once
	then func()
}

func (*afterCommand) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *afterCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == h.name {
			h.once.Do(h.then)
		}
		return err
	}
}

func (*afterCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// longer extends the lives of the first n of every other config.
func longer(t *testing.T, s *Store, n int) {
	var keys []Key
	for i := 1; i < n; i += 2 {
		keys = append(keys, ID(fmt.Sprint(i)))
	}
	if got, err := s.Extend(t.Context(), 100*time.Hour, keys...); got != len(keys) || err != nil {
		t.Errorf("extended %d, %v", got, err)
	}
}

// members are what an index lists.
func members(t *testing.T, addr, name string) []string {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = client.Close() }()
	all, err := client.ZRange(t.Context(), name, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestIndex_forgets_what_is_deleted(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(ctx context.Context, s *Store, ref Ref) (int, error){
		"by id":       func(ctx context.Context, s *Store, ref Ref) (int, error) { return s.Delete(ctx, ID(ref.ID)) },
		"by ref":      func(ctx context.Context, s *Store, ref Ref) (int, error) { return s.Delete(ctx, ref.Key()) },
		"by workflow": func(ctx context.Context, s *Store, _ Ref) (int, error) { return s.DeleteWorkflow(ctx, "w") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			s := newStore(t, newClient(t, server), quiet())
			refs, err := s.Set(t.Context(), Entry{ID: "a", Workflow: "w", Value: 1}, Entry{ID: "b", Workflow: "x", Value: 1})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := remove(t.Context(), s, refs[0]); n != 1 || err != nil {
				t.Fatalf("deleted %d, %v", n, err)
			}
			if server.Exists(s.space.WorkflowIndex("w")) {
				t.Errorf("the index lists %v", members(t, server.Addr(), s.space.WorkflowIndex("w")))
			}
			lists(t, s, "x", 1)
		})
	}
}

// before calls then before the first pipeline or transaction with that command.
type before struct {
	name string
	once sync.Once
	then func()
}

func (*before) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*before) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == h.name }) {
			h.once.Do(h.then)
		}
		return next(ctx, cmds)
	}
}

func TestIndex_forgets_what_is_moved_while_it_is_deleted(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	other := newStore(t, newClient(t, server), quiet())
	saves(t, other, Entry{ID: "a", Workflow: "w", Value: 1})
	client := newClient(t, server)
	client.AddHook(&before{name: "del", then: func() { saves(t, other, Entry{ID: "a", Workflow: "x", Value: 2}) }})
	if n, err := newStore(t, client, quiet()).Delete(t.Context(), ID("a")); n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	lists(t, other, "w", 0)
	lists(t, other, "x", 0)
}

func TestIndex_forgets_in_time_what_expired_without_a_scan(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, newClient(t, server), quiet())
	saves(t, s, Entry{ID: "old", Workflow: "w", Value: 1, TTL: time.Hour}, Entry{ID: "a", Workflow: "w", Value: 1})
	saves(t, s, Entry{ID: "old", Workflow: "w", Value: 2, TTL: time.Hour}) // puts content aside
	server.FastForward(time.Hour)
	s.tidies = func() bool { return true }
	for _, test := range []struct {
		ahead time.Duration
		want  int
	}{
		{tidyAfter + time.Hour - time.Minute, 2},
		{tidyAfter + time.Hour + time.Minute, 1},
	} {
		aheadBy(s, test.ahead)
		saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1})
		if got := members(t, server.Addr(), s.space.WorkflowIndex("w")); len(got) != test.want {
			t.Errorf("%v later the index lists %v; want %d", test.ahead, got, test.want)
		}
		if got := members(t, server.Addr(), s.space.WorkflowAsideIndex("w")); len(got) != test.want-1 {
			t.Errorf("%v later the index of overwritten contents lists %v; want %d", test.ahead, got, test.want-1)
		}
	}
}

// A clock is ahead by far, or a score is too low for another reason.
func TestIndex_keeps_what_lives_whatever_its_score_says(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, newServer(t)), quiet())
	saves(t, s, Entry{ID: "a", Workflow: "w", Value: 1}, Entry{ID: "b", Workflow: "w", Value: 1})
	s.tidies = func() bool { return true }
	aheadBy(s, 1000*time.Hour)
	saves(t, s, Entry{ID: "b", Workflow: "w", Value: 1})
	lists(t, s, "w", 2)
}

func TestIndex_does_not_list_again_what_is_deleted_while_it_is_extended(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	other := newStore(t, newClient(t, server), quiet())
	saves(t, other, Entry{ID: "a", Workflow: "w", Value: 1}, Entry{ID: "b", Workflow: "w", Value: 1})
	client := newClient(t, server)
	client.AddHook(&before{name: "zadd", then: func() {
		if n, err := other.Delete(t.Context(), ID("a")); n != 1 || err != nil {
			t.Errorf("deleted %d, %v", n, err)
		}
	}})
	if _, err := newStore(t, client, quiet()).Extend(t.Context(), 100*time.Hour, ID("a")); err != nil {
		t.Error(err)
	}
	lists(t, other, "w", 1)
}

func TestScan_takes_nothing_out_that_was_saved_while_its_caller_took_time(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	other := newStore(t, newClient(t, server), quiet())
	saves(t, other, Entry{ID: "a", Workflow: "w", Value: 1, TTL: time.Second}, Entry{ID: "b", Workflow: "w", Value: 1, TTL: 2 * time.Second})
	server.FastForward(time.Second)
	client := newClient(t, server)
	client.AddHook(&before{name: "zrem", then: func() { t.Error("a config that lives was taken out for a moment") }})
	for key, err := range newStore(t, client, quiet()).Scan(t.Context(), Scope{Workflow: "w"}) {
		if key != ID("b") || err != nil {
			t.Errorf("got %v, %v", key, err)
		}
		saves(t, other, Entry{ID: "a", Workflow: "w", Value: 2}) // long after the look at it
	}
	lists(t, other, "w", 2)
}
