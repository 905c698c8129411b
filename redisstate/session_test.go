package redisstate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

func newSessions(t testing.TB, client redis.UniversalClient, o Options) *Sessions {
	t.Helper()
	s, err := NewSessions(client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openSession(t testing.TB, s *Sessions, executionID string) *Session {
	t.Helper()
	session, err := s.Open(executionID)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func TestSession_behaves_like_a_map_on_embedded_Redis(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	rapid.Check(t, func(t *rapid.T) {
		server.FlushAll()
		checkSessionModel(t, client, func(d time.Duration) error { server.FastForward(d); return nil })
	})
}

// sessionModel is a session as a map that dies at a virtual time.
type sessionModel struct {
	values map[string]int
	dies   time.Duration
}

// checkSessionModel does random things to sessions, by two processes with
// different times to live, and to maps, and compares what they say.
func checkSessionModel(t *rapid.T, client redis.UniversalClient, pass func(time.Duration) error) {
	ctx := context.Background()
	ttls := []time.Duration{time.Hour, 3 * time.Hour}
	var processes []*Sessions
	for _, ttl := range ttls {
		s, err := NewSessions(client, Options{TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, s)
	}
	var now time.Duration
	models := map[string]*sessionModel{"e": {values: map[string]int{}}, "e:a": {values: map[string]int{}}}
	names := rapid.SampledFrom([]string{"a", "b", "e:a", "\x00"})
	pick := func(t *rapid.T) (*Session, *sessionModel, time.Duration) {
		id, by := rapid.SampledFrom([]string{"e", "e:a"}).Draw(t, "execution"), rapid.IntRange(0, 1).Draw(t, "process")
		s, err := processes[by].Open(id)
		if err != nil {
			t.Fatal(err)
		}
		m := models[id]
		if m.dies <= now {
			clear(m.values)
		}
		return s, m, ttls[by]
	}
	read := func(m *sessionModel, ttl time.Duration) {
		if left := m.dies - now; len(m.values) > 0 && left < ttl-ttl/4 {
			m.dies = now + ttl
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"set": func(t *rapid.T) {
			s, m, ttl := pick(t)
			values := rapid.MapOfN(names, rapid.IntRange(0, 9), 1, 3).Draw(t, "values")
			any := make(map[string]any, len(values))
			for name, v := range values {
				any[name] = v
			}
			if err := s.SetMany(ctx, any); err != nil {
				t.Fatal(err)
			}
			if len(m.values) == 0 {
				m.dies = now
			}
			maps.Copy(m.values, values)
			m.dies = max(m.dies, now+ttl)
		},
		"get": func(t *rapid.T) {
			s, m, ttl := pick(t)
			name := names.Draw(t, "name")
			got, err := SessionGet[int](ctx, s, name)
			want, there := m.values[name]
			if there && (err != nil || got != want) || !there && !errors.Is(err, ErrNotFound) {
				t.Fatalf("%q gave %d, %v; want %d, %v", name, got, err, want, there)
			}
			read(m, ttl)
		},
		"all": func(t *rapid.T) {
			s, m, ttl := pick(t)
			all, err := s.All(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]int, len(all))
			for name, v := range all {
				if got[name], err = DecodeSession[int](v); err != nil {
					t.Fatal(err)
				}
			}
			if !maps.Equal(got, m.values) {
				t.Fatalf("all gave %v; want %v", got, m.values)
			}
			read(m, ttl)
		},
		"delete": func(t *rapid.T) {
			s, m, _ := pick(t)
			gone := rapid.SliceOfN(names, 1, 2).Draw(t, "names")
			if err := s.Delete(ctx, gone...); err != nil {
				t.Fatal(err)
			}
			for _, name := range gone {
				delete(m.values, name)
			}
		},
		"drop": func(t *rapid.T) {
			s, m, _ := pick(t)
			if err := s.Drop(ctx); err != nil {
				t.Fatal(err)
			}
			clear(m.values)
		},
		"pass time": func(t *rapid.T) {
			d := time.Duration(rapid.IntRange(1, 5).Draw(t, "steps")) * 11 * time.Minute
			if err := pass(d); err != nil {
				t.Fatal(err)
			}
			now += d
		},
	})
}

func TestSession_writes_are_whole_when_answers_are_lost(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	p := newLossy(t, server.Addr(), everyThird("hset"))
	s := openSession(t, newSessions(t, eager(t, p.addr), Options{}), "e")
	for i := range 30 {
		for {
			err := s.SetMany(t.Context(), map[string]any{"x": i, "y": i})
			if err == nil {
				break
			}
			if !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		all, err := s.All(t.Context())
		if err != nil || string(all["x"].JSON()) != fmt.Sprint(i) || string(all["y"].JSON()) != fmt.Sprint(i) {
			t.Fatalf("got %s and %s, %v; want %d", all["x"].JSON(), all["y"].JSON(), err, i)
		}
	}
	if p.lost.Load() == 0 {
		t.Error("no answer was lost")
	}
}

// commandCount counts the commands of a client by name.
type commandCount struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *commandCount) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commandCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.add(cmd)
		return next(ctx, cmd)
	}
}

func (c *commandCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.add(cmds...)
		return next(ctx, cmds)
	}
}

func (c *commandCount) add(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		c.counts[cmd.Name()]++
	}
}

func TestSession_reads_write_only_once_a_quarter_of_its_life(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	s := openSession(t, newSessions(t, client, Options{TTL: time.Hour}), "e")
	if err := s.Set(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	count := &commandCount{counts: map[string]int{}}
	client.AddHook(count)
	for range 4 * 60 { // four hours, read each minute
		server.FastForward(time.Minute)
		if _, err := s.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if n := count.counts["pexpire"]; n < 12 || n > 16 || count.counts["hget"] != 240 {
		t.Errorf("%v", count.counts)
	}
}

func TestSession_values_that_were_read_stand_without_the_extension(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	s := openSession(t, newSessions(t, client, Options{TTL: time.Hour}), "e")
	if err := s.Set(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	server.FastForward(30 * time.Minute)
	client.AddHook(refuse{"pexpire"})
	if v, err := SessionGet[int](t.Context(), s, "a"); err != nil || v != 1 {
		t.Fatalf("got %d, %v", v, err)
	}
}

// refuse fails single commands of a name.
type refuse struct{ name string }

func (refuse) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refuse) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (r refuse) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == r.name {
			return errors.New("READONLY You can't write against a read only replica.")
		}
		return next(ctx, cmd)
	}
}

func TestExecutionID_is_one_for_each_run(t *testing.T) {
	t.Parallel()
	seen := map[string][2]string{}
	long := strings.Repeat("w", 1000)
	for _, run := range [][2]string{
		{"w", "r"}, {"w", "r2"}, {"w/r", ""}, {"w", "/r"}, {"w/", "r"}, {"w%2F", "r"}, {"wr", ""}, {"", "wr"},
		{long, strings.Repeat("r", 36)}, {long + "w", strings.Repeat("r", 36)}, {long, strings.Repeat("r", 35) + "s"}, {strings.Repeat("/", 1000), "r"},
	} {
		id := ExecutionID(run[0], run[1])
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q have the same id", run, other)
		}
		seen[id] = run
		if err := checkID("execution id", id); err != nil {
			t.Error(err)
		}
	}
	if id := ExecutionID("order-42", "r"); id != "order-42/r" {
		t.Errorf("got %s", id)
	}
}

// The canary is a value; it may be in no error and no key name.
func TestSession_canary_is_in_no_error_and_no_key(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry-s3cret"
	server := newServer(t)
	client := newClient(t, server)
	s := openSession(t, newSessions(t, client, Options{MaxConfigBytes: 1000}), "e")
	var told []error
	exercise := func() {
		for _, v := range []any{canary, []byte(`{"a":"` + canary), picky{canary}, strings.Repeat(canary, 200), map[string]string{canary: canary}} {
			told = append(told, s.Set(t.Context(), "v", v))
		}
		_, err := SessionGet[picky](t.Context(), s, "v")
		told = append(told, err)
		_, err = SessionGet[time.Time](t.Context(), s, "v")
		told = append(told, err)
		_, err = s.All(t.Context())
		told = append(told, err, s.Delete(t.Context(), "none"))
	}
	exercise()
	server.HSet("temporal-redis:session:e", "w", canary)
	exercise()
	for _, reply := range []string{"OOM", "NOPERM no permissions", "ERR unknown command 'hset', with args beginning with: 'k' 'v' '" + canary + "'"} {
		server.SetError(reply)
		exercise()
	}
	server.SetError("")
	for _, key := range server.Keys() {
		told = append(told, errors.New(key))
	}
	server.Close()
	exercise()
	errs := 0
	for _, err := range told {
		if err != nil {
			errs++
			if text := err.Error(); strings.Contains(text, canary) {
				t.Errorf("in an error: %v", err)
			}
		}
	}
	if errs < 20 {
		t.Errorf("only %d errors were seen", errs)
	}
}
