package redisstate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestCache_keeps_nothing_of_a_change_that_may_not_have_been_committed(t *testing.T) {
	t.Parallel()
	unknown, rolledBack := errors.New("commit: connection reset"), fmt.Errorf("conflict: %w", ErrRolledBack)
	for name, change := range map[string]struct {
		commit func(r *rows) (map[string]hotState, error)
		want   error
		listed bool // until its mark expires
	}{
		"rolled back": {commit: func(*rows) (map[string]hotState, error) {
			return map[string]hotState{"a": {Version: 9}}, rolledBack
		}, want: ErrRolledBack},
		"it failed": {commit: func(*rows) (map[string]hotState, error) {
			return map[string]hotState{"a": {Version: 9}}, unknown
		}, want: unknown, listed: true},
		"committed, but who knows": {commit: func(r *rows) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, unknown
		}, want: unknown, listed: true},
		"it panicked":            {commit: func(r *rows) (map[string]hotState, error) { r.write("a"); panic("x") }, listed: true},
		"it ended the goroutine": {commit: func(r *rows) (map[string]hotState, error) { r.write("a"); runtime.Goexit(); return nil, nil }, listed: true},
		"states of others": {commit: func(r *rows) (map[string]hotState, error) {
			r.write("a")
			return map[string]hotState{"b": {Version: 9}}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, r := newServer(t), newRows("a", "b")
			c := newCache(t, newClient(t, server), r, quiet())
			has(t, c, r, 1, 1)
			ended := make(chan error)
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) { return change.commit(r) })
				if !errors.Is(err, change.want) {
					t.Errorf("the error is %v", err)
				}
			}()
			<-ended
			version := r.states["a"].Version
			has(t, c, r, version, 2)
			if change.listed { // it may yet be committed, for all that is known
				has(t, c, r, version, 3)
				r.write("a")
				has(t, c, r, version+1, 4)
				server.FastForward(DefaultChangeTimeout)
				has(t, c, r, version+1, 5)
				has(t, c, r, version+1, 5)
			} else {
				has(t, c, r, version, 2)
			}
			if b, err := c.Get(t.Context(), "b"); b.Version != 1 || err != nil {
				t.Errorf("b is %+v, %v", b, err)
			}
			if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnknown)); (n == 1) != change.listed {
				t.Errorf("%v changes are counted as unknown", n)
			}
		})
	}
}

// A mark lives for as long as its process said, whatever others say.
func TestCache_change_is_not_cut_short_by_one_with_less_time(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	client := newClient(t, server)
	long, short := newCache(t, client, r, quiet()), newCache(t, client, r, quiet())
	short.change = time.Second
	_ = long.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		return nil, errors.New("who knows")
	})
	if err := short.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	server.FastForward(DefaultChangeTimeout - time.Second)
	has(t, long, r, 1, 1)
	has(t, long, r, 1, 2)
}

// The mark alone keeps reads from putting anything in, if Redis evicted the list.
func TestCache_puts_nothing_in_under_a_mark(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	c := newCache(t, newClient(t, server), r, quiet())
	if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		server.Del(c.space.StateChanges("workflow", "a"))
		has(t, c, r, 1, 1)
		has(t, c, r, 1, 2)
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// What follows a change is done also for a caller who gave up; what is known of
// one that took too long is not used.
func TestCache_change_whose_caller_gave_up_or_took_too_long(t *testing.T) {
	t.Parallel()
	r := newRows("a")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	write := func(context.Context) (map[string]hotState, error) {
		cancel()
		return map[string]hotState{"a": r.write("a")}, nil
	}
	if err := c.Change(ctx, []string{"a"}, write); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 2, 0)
	c.change = time.Second
	if err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		<-ctx.Done() // its time is over
		return write(ctx)
	}); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 3, 1)
}

// A process that died is listed for no longer than its time and a minute,
// however many changes others make.
func TestCache_forgets_changes_of_processes_that_died(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	c := newCache(t, newClient(t, server), r, quiet())
	for _, died := range []struct {
		left  time.Duration // of its time
		loads int64
	}{{-clockSkew + time.Minute/2, 2}, {-clockSkew - time.Second, 1}} {
		r.loads.Store(0)
		loads, died := died.loads, redis.Z{Score: float64(time.Now().Add(died.left).UnixMicro()), Member: mark + "died"}
		if err := c.client.ZAdd(t.Context(), c.space.StateChanges("workflow", "a"), died).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Invalidate(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		has(t, c, r, 1, 1)
		has(t, c, r, 1, loads)
	}
	// The next change tidies up, and is alone.
	if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
		return map[string]hotState{"a": r.write("a")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	has(t, c, r, 2, 1)
}

// What cannot be put in is loaded when it is asked for.
func TestCache_writes_through_only_what_it_can(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(c *Cache[hotState]){
		"a state that JSON cannot be": func(c *Cache[hotState]) { c.text.codec = mute{} },
		"a state that panics":         func(c *Cache[hotState]) { c.text.codec = wild{} },
		"a state that is too large":   func(c *Cache[hotState]) { c.text.max = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRows("a")
			c := newCache(t, newClient(t, newServer(t)), r, quiet())
			has(t, c, r, 1, 1)
			breaks(c)
			if err := c.Change(t.Context(), []string{"a"}, func(context.Context) (map[string]hotState, error) {
				return map[string]hotState{"a": r.write("a")}, nil
			}); err != nil {
				t.Errorf("the change failed: %v", err)
			}
			has(t, c, r, 2, 2) // nor can it be put in after a load
			has(t, c, r, 2, 3)
			c.text.codec, c.text.max = stdCodec{}, DefaultMaxConfigBytes
			has(t, c, r, 2, 4) // nothing is left of the change
			has(t, c, r, 2, 4)
			if n := testutil.ToFloat64(c.events.WithLabelValues(telemetry.StateUnfit)); n != 3 {
				t.Errorf("%v states are counted as unfit; want 3", n)
			}
		})
	}
}

// mute marshals nothing.
type mute struct{ stdCodec }

func (mute) Marshal(any) ([]byte, error) { return nil, errors.New("no") }

// wild panics.
type wild struct{}

func (wild) Marshal(any) ([]byte, error) { panic("wild") }
func (wild) Unmarshal([]byte, any) error { panic("wild") }

// Two changes of one id overlap; the first to begin ends last, and knows an
// earlier state.
func TestCache_keeps_no_state_of_changes_that_overlap(t *testing.T) {
	t.Parallel()
	r := newRows("a")
	c := newCache(t, newClient(t, newServer(t)), r, quiet())
	err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		mine := r.write("a")
		err := c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, nil
		})
		if got, getErr := c.Get(ctx, "a"); got.Version != 3 || getErr != nil { // makes a guard
			t.Errorf("between the ends it is %+v, %v", got, getErr)
		}
		return map[string]hotState{"a": mine}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), "a"); got.Version != 3 || err != nil {
		t.Errorf("it is %+v, %v; want version 3", got, err)
	}
}

// One change ends while another is under way, which then loses Redis before it
// can say that it ended.
func TestCache_keeps_nothing_while_any_change_is_under_way(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	r := newRows("a")
	client, down := newClient(t, server), new(outage)
	client.AddHook(down)
	c := newCache(t, client, r, quiet())
	version := func() int {
		got, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		return got.Version
	}
	err := c.Change(t.Context(), []string{"a"}, func(ctx context.Context) (map[string]hotState, error) {
		err := c.Change(ctx, []string{"a"}, func(context.Context) (map[string]hotState, error) {
			return map[string]hotState{"a": r.write("a")}, nil
		})
		if v := version(); v != 2 {
			t.Errorf("between the two it is version %d", v)
		}
		r.write("a")
		down.on.Store(true)
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	down.on.Store(false)
	if v := version(); v != 3 {
		t.Errorf("it is version %d; want 3", v)
	}
	server.FastForward(DefaultChangeTimeout)
	if v, again := version(), version(); v != 3 || again != 3 {
		t.Errorf("it is version %d, then %d; want 3", v, again)
	}
}

// full refuses transactions as Redis does when it has no memory left.
type full struct{ transactions *atomic.Int64 }

func (full) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (full) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (f full) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "multi" {
			return next(ctx, cmds)
		}
		f.transactions.Add(1)
		for _, cmd := range cmds {
			cmd.SetErr(replyError("EXECABORT Transaction discarded because of previous errors."))
		}
		return cmds[0].Err()
	}
}

func TestCache_takes_out_also_when_Redis_is_full(t *testing.T) {
	t.Parallel()
	server, r := newServer(t), newRows("a")
	c := newCache(t, newClient(t, server), r, quiet())
	has(t, c, r, 1, 1)
	r.write("a")
	client, refused := newClient(t, server), new(atomic.Int64)
	client.AddHook(full{refused})
	if err := newCache(t, client, r, quiet()).Invalidate(t.Context(), "a"); err != nil || refused.Load() == 0 {
		t.Errorf("it gives %v after %d transactions", err, refused.Load())
	}
	has(t, c, r, 2, 2)
}
