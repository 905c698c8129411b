package redisstate

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// failing is a hook that refuses the n-th pipeline, as if the writer died there.
type failing struct {
	redis.Hook
	at   int
	seen int
}

var errDied = net.ErrClosed

// handshake tells the pipeline that go-redis sends on a new connection.
func handshake(cmds []redis.Cmder) bool {
	return slices.Contains([]string{"hello", "auth", "client", "select"}, cmds[0].Name())
}

func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if handshake(cmds) {
			return next(ctx, cmds)
		}
		f.seen++
		if f.seen == f.at {
			for _, cmd := range cmds {
				cmd.SetErr(errDied)
			}
			return errDied
		}
		return next(ctx, cmds)
	}
}
func (f *failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (f *failing) DialHook(next redis.DialHook) redis.DialHook          { return next }

func TestSet_loses_no_ref_wherever_the_writer_dies(t *testing.T) {
	t.Parallel()
	for died := 1; died <= 4; died++ {
		server := newServer(t)
		store := newStore(t, newClient(t, server), quiet())
		old, err := For[doc](store).Set(t.Context(), "wf", "a", &doc{"old", 1})
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, server)
		hook := &failing{at: died}
		client.AddHook(hook)
		_, err = For[doc](newStore(t, client, quiet())).Set(t.Context(), "wf", "a", &doc{"new", 2})
		if died <= 3 && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("died at pipeline %d: got %v", died, err)
		}
		if died == 4 && (err != nil || hook.seen != 3) {
			t.Fatalf("an overwrite took %d pipelines, %v; want 3", hook.seen, err)
		}
		reader := For[doc](newStore(t, newClient(t, server), quiet()))
		if got, _, err := reader.Get(t.Context(), old.Key()); err != nil || got.Name != "old" {
			t.Fatalf("died at pipeline %d: the old ref gave %v, %v", died, got, err)
		}
		// Saving again mends whatever was left.
		ref, err := For[doc](store).Set(t.Context(), "wf", "a", &doc{"new", 2})
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[Key]string{old.Key(): "old", ref.Key(): "new", ID("a"): "new"} {
			if got, _, err := reader.Get(t.Context(), key); err != nil || got.Name != want {
				t.Fatalf("died at pipeline %d: %v gave %v, %v; want %s", died, key, got, err, want)
			}
		}
	}
}

// between runs something between the pipelines of a client.
type between struct {
	failing
	do func(pipeline int)
}

func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if handshake(cmds) {
			return next(ctx, cmds)
		}
		b.seen++
		b.do(b.seen)
		return next(ctx, cmds)
	}
}

func TestSet_keeps_what_another_writer_put_there_meanwhile(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 3; at++ {
		server := newServer(t)
		other := newStore(t, newClient(t, server), quiet())
		first, err := For[doc](other).Set(t.Context(), "wf", "a", &doc{"first", 1})
		if err != nil {
			t.Fatal(err)
		}
		var second Ref
		client := newClient(t, server)
		client.AddHook(&between{do: func(pipeline int) {
			if pipeline == at {
				if second, err = For[doc](other).Set(t.Context(), "wf", "a", &doc{"second", 2}); err != nil {
					t.Error(err)
				}
			}
		}})
		third, err := For[doc](newStore(t, client, quiet())).Set(t.Context(), "wf", "a", &doc{"third", 3})
		if err != nil {
			t.Fatal(err)
		}
		reader := For[doc](newStore(t, newClient(t, server), quiet()))
		for key, want := range map[Key]string{first.Key(): "first", second.Key(): "second", third.Key(): "third", ID("a"): "third"} {
			if got, _, err := reader.Get(t.Context(), key); err != nil || got.Name != want {
				t.Errorf("before pipeline %d: %v gave %v, %v; want %s", at, key, got, err, want)
			}
		}
	}
}

func TestSet_new_configs_take_one_round_trip(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	hook := &between{do: func(int) {}}
	client.AddHook(hook)
	store := newStore(t, client, quiet())
	entries := []Entry{{ID: "a", Workflow: "w1", Value: 1}, {ID: "b", Workflow: "w2", Value: 2}, {ID: "c", Value: 3}}
	for _, trips := range []int{1, 2} { // unchanged ones a second one for their lives
		hook.seen = 0
		if _, err := store.Set(t.Context(), entries...); err != nil || hook.seen != trips {
			t.Fatalf("took %d pipelines, %v; want %d", hook.seen, err, trips)
		}
	}
	hook.seen = 0
	if _, err := newStore(t, client, quiet()).GetMany(t.Context(), ID("a"), ID("b"), ID("c")); err != nil || hook.seen != 1 {
		t.Fatalf("reading took %d pipelines, %v; want 1", hook.seen, err)
	}
}

func TestSet_gives_everything_a_time_to_live(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	for i := range 3 {
		if _, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: i}); err != nil {
			t.Fatal(err)
		}
	}
	keys := server.Keys()
	if len(keys) != 5 { // current, two put aside, the indexes of both
		t.Fatalf("the keys are %v", keys)
	}
	for _, key := range keys {
		if ttl := server.TTL(key); ttl <= 0 || ttl > DefaultTTL+indexGrace {
			t.Errorf("%s lives %v; want %v", key, ttl, DefaultTTL)
		}
		if !strings.HasPrefix(key, "temporal-redis:") {
			t.Errorf("%s is not under the namespace", key)
		}
	}
	server.FastForward(DefaultTTL + indexGrace)
	if keys := server.Keys(); len(keys) != 0 {
		t.Fatalf("left behind: %v", keys)
	}
}

func TestSet_keeps_content_of_a_newer_format_for_its_refs(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	ref, err := For[doc](store).Set(t.Context(), "", "a", &doc{"old", 1})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := server.Get("temporal-redis:config:a")
	if err != nil {
		t.Fatal(err)
	}
	newer := "\x02" + raw[1:headerBytes] + "in a way of its own"
	if err := server.Set("temporal-redis:config:a", newer); err != nil {
		t.Fatal(err)
	}
	if _, err := For[doc](store).Set(t.Context(), "", "a", &doc{"other", 2}); err != nil {
		t.Fatal(err)
	}
	if kept, err := server.Get("temporal-redis:config:a@" + string(ref.Digest)); err != nil || kept != newer {
		t.Fatalf("kept %q, %v", kept, err)
	}
	reader := newStore(t, newClient(t, server), quiet())
	if _, err := reader.Get(t.Context(), ref.Key()); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("got %v; want ErrNewerFormat", err)
	}
	// The same content in a newer format is written so that we can read it.
	if err := server.Set("temporal-redis:config:b", newer); err != nil {
		t.Fatal(err)
	}
	if _, err := For[doc](store).Set(t.Context(), "", "b", &doc{"old", 1}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := For[doc](reader).Get(t.Context(), Key{"b", ref.Digest}); err != nil || got.Name != "old" {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestSet_writes_again_what_is_gone_before_its_life_is_extended(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *miniredis.Miniredis){
		"removed":  func(_ *testing.T, s *miniredis.Miniredis) { s.Del("temporal-redis:config:a") },
		"flushed":  func(_ *testing.T, s *miniredis.Miniredis) { s.FlushAll() },
		"expired":  func(_ *testing.T, s *miniredis.Miniredis) { s.FastForward(DefaultTTL) },
		"replaced": func(t *testing.T, s *miniredis.Miniredis) { replace(t, s) },
	} {
		server := newServer(t)
		entries := []Entry{{ID: "a", Workflow: "wf", Value: doc{"a", 1}}, {ID: "b", Workflow: "wf", Value: doc{"b", 2}}}
		refs, err := newStore(t, newClient(t, server), quiet()).Set(t.Context(), entries...)
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(t, server)
		client.AddHook(&between{do: func(pipeline int) {
			if pipeline == 2 {
				lose(t, server)
			}
		}})
		if _, err := newStore(t, client, quiet()).Set(t.Context(), entries...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reader := newStore(t, newClient(t, server), quiet())
		for _, ref := range refs {
			if _, err := reader.Get(t.Context(), ref.Key()); err != nil {
				t.Errorf("%s: %s is lost: %v", name, ref.ID, err)
			}
		}
		if n, err := reader.Count(t.Context(), Scope{Workflow: "wf"}); err != nil || n != 2 {
			t.Errorf("%s: %d of 2 are listed, %v", name, n, err)
		}
		for _, key := range server.Keys() {
			if server.TTL(key) <= 0 {
				t.Errorf("%s: %s never expires", name, key)
			}
		}
	}
}

// replace is what another writer does.
func replace(t *testing.T, server *miniredis.Miniredis) {
	t.Helper()
	if _, err := newStore(t, newClient(t, server), quiet()).Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: doc{"other", 3}}); err != nil {
		t.Error(err)
	}
}
