package locking

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestStandIn_says_what_the_script_would(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.give(t, f.grant(t, newToken())) // scripts run
	mine := f.grant(t, newToken())
	f.server.Del(f.keys.grant) // the record is lost; the lock itself tells
	_, err := f.obtain(t.Context(), f.keys, want{token: newToken(), ttl: time.Second})
	if taken, ok := errors.AsType[*takenError](err); !ok || taken.by != mine.lock.Token() {
		t.Errorf("another got %v (%+v); want that %q has it", err, err, mine.lock.Token())
	}
	f.server.FastForward(600 * time.Millisecond)
	again, err := f.obtain(t.Context(), f.keys, want{token: mine.lock.Token(), text: "anew", ttl: time.Second})
	if err != nil {
		t.Fatalf("its holder got %v", err)
	}
	if there, _ := f.server.Get(f.keys.lock); there != mine.lock.Token()+"anew" || f.server.TTL(f.keys.lock) != time.Second {
		t.Errorf("%q stays for %v; want the new text for a second", there, f.server.TTL(f.keys.lock))
	}
	if again.fence <= mine.fence {
		t.Errorf("fence %d after %d", again.fence, mine.fence)
	}
}

// What a server answers that does not know a command.
func TestStandIn_is_for_servers_that_know_it_and_run_scripts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		unknown map[string]bool
		class   rediserr.Class
	}{
		"SET with NX and GET": {unknown: map[string]bool{"set": true}, class: rediserr.OK},
		"scripts":             {unknown: map[string]bool{"eval": true, "evalsha": true}, class: rediserr.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.give(t, f.grant(t, newToken()))
			before := f.grant(t, newToken())
			f.client.AddHook(ignorant{test.unknown})
			_ = f.release(t.Context(), before, nil) // tells that scripts run no more
			f.server.Del(f.keys.lock)
			_, err := f.obtain(t.Context(), f.keys, want{token: newToken(), ttl: time.Second})
			if class := classOf(err); class != test.class {
				t.Errorf("got %v; want class %s", err, test.class)
			}
			if f.server.Exists(f.keys.lock) != (test.class == rediserr.OK) {
				t.Errorf("the lock is held: %v", f.server.Exists(f.keys.lock))
			}
		})
	}
}

// ignorant is a server that does not know some commands.
type ignorant struct{ unknown map[string]bool }

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func (ignorant) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (ignorant) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h ignorant) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var known, unknown []redis.Cmder
		for _, cmd := range cmds {
			if h.unknown[cmd.Name()] {
				unknown = append(unknown, cmd)
			} else {
				known = append(known, cmd)
			}
		}
		var err error
		if len(known) > 0 {
			err = next(ctx, known)
		}
		for _, cmd := range unknown {
			cmd.SetErr(replyError("ERR unknown command or syntax error"))
			err = cmd.Err()
		}
		return err
	}
}
