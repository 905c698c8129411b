package locking

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// fixture is a node on embedded Redis, which says nothing about exclusion but
// speaks the commands.
type fixture struct {
	*node
	server *miniredis.Miniredis
	keys   lockKeys
	time   time.Time // of the server
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	server := miniredis.RunT(t)
	start := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	server.SetTime(start)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	space, err := keys.NewSpace("test", "")
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{node: newNode(client, systemClock, slog.New(slog.DiscardHandler)), server: server, keys: keysOf(space, "r"), time: start}
}

func (f *fixture) grant(t *testing.T, token string) *vote {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // else redislock takes the TTL
	defer cancel()
	v, err := f.obtain(ctx, f.keys, want{token: token, ttl: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f *fixture) give(t *testing.T, v *vote) {
	t.Helper()
	if err := f.release(t.Context(), v, &ringing{queue: f.keys.queue}); err != nil {
		t.Fatal(err)
	}
}

func TestNode_fence_rises_with_each_grant_and_starts_at_the_clock_of_redis(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	last := uint64(f.time.UnixMicro())
	for range 20 {
		v := f.grant(t, newToken())
		if v.fence <= last {
			t.Fatalf("fence %d after %d", v.fence, last)
		}
		last = v.fence
		f.give(t, v)
	}
	if year := f.time.Add(time.Hour).UnixMicro(); last > uint64(year) {
		t.Fatalf("fence %d is far from the clock %d", last, f.time.UnixMicro())
	}
}

func TestNode_fence_rises_over_a_flush_an_expiry_and_an_older_copy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.grant(t, newToken())
	f.give(t, first)
	stale, err := f.server.ZScore(f.keys.fence, fenceMember)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f.give(t, f.grant(t, newToken()))
	}
	before := f.grant(t, newToken())
	f.give(t, before)
	for name, lose := range map[string]func(){
		"flush":  f.server.FlushAll,
		"expiry": func() { f.server.Del(f.keys.fence) },
		"a fail-over to a replica that was behind": func() {
			if _, err := f.server.ZAdd(f.keys.fence, stale, fenceMember); err != nil {
				t.Fatal(err)
			}
		},
	} {
		lose()
		after := f.grant(t, newToken())
		if after.fence <= before.fence {
			t.Fatalf("%s: fence %d after %d", name, after.fence, before.fence)
		}
		f.give(t, after)
		before = after
	}
}

func TestNode_a_failed_obtain_does_not_count_as_a_grant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mine := f.grant(t, newToken())
	for range 3 {
		if _, err := f.obtain(t.Context(), f.keys, want{token: newToken(), ttl: time.Second}); !errors.Is(err, errHeld) {
			t.Fatalf("got %v; want errHeld", err)
		}
	}
	f.server.FastForward(2 * time.Second) // mine is lost
	again := f.grant(t, newToken())
	if again.previous != mine.lock.Token() {
		t.Fatal("a failed obtain was taken for a grant")
	}
	if again.fence <= mine.fence {
		t.Fatalf("fence %d after %d", again.fence, mine.fence)
	}
	f.server.FastForward(2 * time.Second)
	f.give(t, f.grant(t, newToken())) // another's, short
	if third := f.grant(t, newToken()); third.previous == again.lock.Token() {
		t.Fatal("a grant in between was overlooked")
	}
}

func TestNode_does_not_know_the_grant_before_after_a_flush(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.give(t, f.grant(t, newToken()))
	f.server.FlushAll()
	if v := f.grant(t, newToken()); v.previous != "" {
		t.Fatalf("previous is %q", v.previous)
	}
}

func TestNode_obtains_again_with_the_same_token(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := newToken()
	first := f.grant(t, token)
	f.server.FastForward(600 * time.Millisecond)
	second := f.grant(t, token)
	f.server.FastForward(600 * time.Millisecond)
	if second.fence <= first.fence {
		t.Fatalf("fence %d after %d", second.fence, first.fence)
	}
	if err := f.extend(t.Context(), first, time.Second); err != nil {
		t.Fatalf("the second obtain did not renew: %v", err)
	}
}

func TestNode_does_not_release_or_extend_what_another_holds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mine := f.grant(t, newToken())
	f.server.FastForward(2 * time.Second)
	theirs := f.grant(t, newToken())
	if err := f.release(t.Context(), mine, nil); !errors.Is(err, errGone) {
		t.Fatalf("release: %v", err)
	}
	if err := f.extend(t.Context(), mine, time.Hour); !errors.Is(err, errGone) {
		t.Fatalf("extend: %v", err)
	}
	if err := f.undo(t.Context(), f.keys, mine.lock.Token(), "", nil); err != nil {
		t.Fatalf("undo: %v", err)
	}
	if err := f.extend(t.Context(), theirs, time.Second); err != nil {
		t.Fatalf("the other's lock was touched: %v", err)
	}
}

func TestNode_undoes_a_grant_by_its_token_alone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := newToken()
	f.grant(t, token)
	for range 2 {
		if err := f.undo(t.Context(), f.keys, token, "", nil); err != nil {
			t.Fatal(err)
		}
		if f.server.Exists(f.keys.lock) {
			t.Fatal("the lock is still there")
		}
	}
}

func TestNode_keeps_working_when_redis_forgets_its_scripts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	v := f.grant(t, newToken())
	flush := func() {
		if err := f.client.ScriptFlush(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	if err := f.extend(t.Context(), v, time.Second); err != nil {
		t.Fatal(err)
	}
	flush()
	f.give(t, v)
	flush()
	next := f.grant(t, newToken())
	if next.fence <= v.fence || next.previous != v.lock.Token() {
		t.Fatalf("%+v after %+v", next, v)
	}
}

func TestNode_leaves_one_ring_that_expires_and_keys_that_expire(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.give(t, f.grant(t, newToken()))
	f.give(t, f.grant(t, newToken()))
	if members, err := f.server.ZMembers(f.keys.queue); err != nil || len(members) != 1 {
		t.Fatalf("rings: %v, %v", members, err)
	}
	for _, key := range f.server.Keys() {
		if f.server.TTL(key) <= 0 {
			t.Errorf("%s has no TTL", key)
		}
	}
	f.server.FastForward(fenceTTL)
	if left := f.server.Keys(); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestNode_refuses_what_it_cannot_number(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*fixture)
		class rediserr.Class
		cause string
	}{
		"the fence key is of another type": {func(f *fixture) { _ = f.server.Set(f.keys.fence, "x") }, rediserr.Permanent, "WRONGTYPE"},
		"the fence is beyond 2^53": {func(f *fixture) {
			_, _ = f.server.ZAdd(f.keys.fence, 1<<54, fenceMember)
		}, rediserr.Permanent, "out of range"},
		"the clock of redis is in the next century": {func(f *fixture) {
			f.server.SetTime(time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC))
		}, rediserr.Permanent, "clock of the Redis server"},
		"the lock is of another type": {func(f *fixture) { _, _ = f.server.Lpush(f.keys.lock, "x") }, rediserr.Permanent, "WRONGTYPE"},
		"redis is out of reach":       {func(f *fixture) { f.server.Close() }, rediserr.Unavailable, "refused"},
		"redis is loading":            {func(f *fixture) { f.server.SetError("LOADING Redis is loading the dataset in memory") }, rediserr.Unavailable, "LOADING"},
		"access is denied":            {func(f *fixture) { f.server.SetError("NOPERM this user has no permissions") }, rediserr.Denied, "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, before := range []bool{false, true} { // by the script, and by what stands in for it
				f := newFixture(t)
				if before {
					if strings.Contains(test.cause, "clock") {
						continue // which is known by then
					}
					f.give(t, f.grant(t, newToken()))
				}
				f.server.Del(f.keys.fence)
				test.spoil(f)
				_, err := f.obtain(t.Context(), f.keys, want{token: newToken(), ttl: time.Second})
				if err == nil {
					t.Fatal("granted")
				}
				if got := classOf(err); got != test.class {
					t.Fatalf("class %s of %v; want %s", got, err, test.class)
				}
				if !strings.Contains(err.Error(), test.cause) {
					t.Fatalf("%v does not tell %q", err, test.cause)
				}
			}
		})
	}
}

// A flush, or an expiry, may come between two commands of a pipeline.
func TestNode_gives_no_fence_of_a_counter_that_vanished_meanwhile(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"fence", "lock"} {
		for _, before := range []bool{false, true} { // by the script, and by what stands in for it
			f := newFixture(t)
			if before {
				f.give(t, f.grant(t, newToken()))
			}
			gone := map[string]string{"fence": f.keys.fence, "lock": f.keys.lock}[what]
			f.client.AddHook(interrupted{before: "zincrby", by: func() { f.server.Del(gone) }})
			v, err := f.obtain(t.Context(), f.keys, want{token: newToken(), ttl: time.Second})
			if class := classOf(err); class != rediserr.Unavailable || !strings.Contains(err.Error(), "vanished") {
				t.Errorf("the %s vanished: got %+v, %v of class %s", what, v, err, class)
			}
		}
	}
}

// interrupted does something else before a command of a pipeline.
type interrupted struct {
	before string
	by     func()
}

func (interrupted) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (interrupted) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h interrupted) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		i := slices.IndexFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == h.before })
		if i < 1 {
			return next(ctx, cmds)
		}
		err := next(ctx, cmds[:i])
		h.by()
		return errors.Join(err, next(ctx, cmds[i:]))
	}
}

func TestNode_takes_the_time_of_redis_not_of_the_process(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	machine := &skewedClock{}
	f.now = machine.now
	ctx := t.Context()
	check := func(when string, want time.Time) {
		t.Helper()
		micros, err := f.node.time.micros(ctx, f.client, f.now)
		if off := time.UnixMicro(micros).Sub(want); err != nil || off < 0 || off > time.Minute {
			t.Fatalf("%s: got %s, %v; want %s", when, time.UnixMicro(micros).UTC(), err, want)
		}
	}
	check("asked", f.time)
	f.server.SetTime(f.time.Add(time.Hour))
	check("not asked again within a minute", f.time)
	machine.skew.Store(int64(2 * time.Minute))
	check("asked again", f.time.Add(time.Hour))
}

func TestTokens_have_one_length_and_differ(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		token := newToken()
		if len(token) != 22 || seen[token] {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
	}
}
