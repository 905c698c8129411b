package redisstate

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// denying answers PUBLISH as Redis does when a user may not, in and outside of
// transactions.
type denying struct{ asked *int }

func (denying) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (denying) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (d denying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		refused := redis.Error(replyError("NOPERM this user has no permissions to access the channel used as argument"))
		for _, cmd := range cmds {
			if cmd.Name() != "publish" {
				continue
			}
			*d.asked++
			if cmds[0].Name() != "multi" {
				continue
			}
			for _, other := range cmds {
				other.SetErr(replyError("EXECABORT Transaction discarded because of previous errors."))
			}
			cmd.SetErr(refused)
			return refused
		}
		return next(ctx, cmds)
	}
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// Who may not publish writes all the same, and says so once.
func TestStore_writes_without_bells_if_it_may_not_ring(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	asked := 0
	client.AddHook(denying{&asked})
	var log bytes.Buffer
	o := quiet()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := newStore(t, client, o)
	for i := range 3 {
		saves(t, s, Entry{ID: "a", Value: i, Workflow: "w"})
	}
	if n, err := s.Delete(t.Context(), ID("a")); n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	if n := bytes.Count(log.Bytes(), []byte("may not publish")); n != 1 || asked != 1 {
		t.Errorf("it asked %d times and said so %d times: %s", asked, n, &log)
	}
}

func TestBells_ring_for_ids_as_they_are(t *testing.T) {
	t.Parallel()
	space, err := keys.NewSpace("ns", "")
	if err != nil {
		t.Fatal(err)
	}
	b := &bells{space: space}
	server := newServer(t)
	client := newClient(t, server)
	for _, id := range []string{"a", "a}b{", "a:b@c", "ü%"} {
		var bell *redis.IntCmd
		_, _ = client.Pipelined(t.Context(), func(p redis.Pipeliner) error { bell = b.ring(t.Context(), p, id); return nil })
		payload, _ := bell.Args()[2].(string)
		if got, ok := b.parse(payload); got != id || !ok {
			t.Errorf("%q became %q, %v", id, got, ok)
		}
	}
	for _, payload := range []string{"", "{}", "ns:config:a", "{ns:config:a", "{other:config:a}", "{ns:config:a@sha256:x}"} {
		if id, ok := b.parse(payload); ok {
			t.Errorf("%q was taken for %q", payload, id)
		}
	}
}

// A refusal of everything, as of a wrong password, says nothing of bells.
func TestBells_ring_again_after_a_refusal_of_everything(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, newServer(t)), quiet())
	denied := replyError("NOPERM this user has no permissions to run the 'multi' command")
	bell, set := redis.NewIntCmd(t.Context(), "publish"), redis.NewStringCmd(t.Context(), "set")
	bell.SetErr(denied)
	set.SetErr(denied)
	if s.bells.refused(t.Context(), []redis.Cmder{set, bell}, []*redis.IntCmd{bell}) || s.bells.silent.Load() != 0 {
		t.Error("it was taken for one of the bell")
	}
	set.SetErr(replyError("EXECABORT Transaction discarded because of previous errors."))
	if !s.bells.refused(t.Context(), []redis.Cmder{set, bell}, []*redis.IntCmd{bell}) {
		t.Error("one of the bell was not taken for it")
	}
	s.bells.silent.Store(time.Now().UnixNano()) // after a while
	_, _ = s.client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		if s.bells.ring(t.Context(), p, "a") == nil {
			t.Error("no bell is rung any more")
		}
		return nil
	})
}
