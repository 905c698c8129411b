package redisstate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis refuses every new connection, as after a change of the password: go-redis then
// leaves the commands of a pipeline without an error, and without a value. Nothing is
// taken for an answer.
func TestEveryOperation_of_a_user_who_is_shut_out_says_so(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	server.RequireAuth("C4n4ry")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "old", ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	o := quiet()
	o.NearCacheByKey = true // reads by id ask for the value's life too
	store := newStore(t, client, o)
	sessions, err := NewSessions(client, quiet())
	if err != nil {
		t.Fatal(err)
	}
	session, err := sessions.Open("execution")
	if err != nil {
		t.Fatal(err)
	}
	counters, err := NewCounters(client, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = counters.Close() })
	pinned := Key{"a", sum{}.digest()}
	for name, do := range map[string]func(ctx context.Context) error{
		"Get":      func(ctx context.Context) error { _, err := store.Get(ctx, ID("a")); return err },
		"Get, ref": func(ctx context.Context) error { _, err := store.Get(ctx, pinned); return err },
		"GetMany":  func(ctx context.Context) error { _, err := store.GetMany(ctx, ID("a"), ID("b"), pinned); return err },
		"Set": func(ctx context.Context) error {
			_, err := store.Set(ctx, Entry{ID: "a", Value: 1, Workflow: "w"}, Entry{ID: "b", Value: 2})
			return err
		},
		"Delete":     func(ctx context.Context) error { _, err := store.Delete(ctx, ID("a"), pinned); return err },
		"TTL":        func(ctx context.Context) error { _, err := store.TTL(ctx, ID("a")); return err },
		"TTL, ref":   func(ctx context.Context) error { _, err := store.TTL(ctx, pinned); return err },
		"Extend":     func(ctx context.Context) error { _, err := store.Extend(ctx, time.Hour, ID("a"), pinned); return err },
		"Count":      func(ctx context.Context) error { _, err := store.Count(ctx, Scope{Workflow: "w"}); return err },
		"Count, all": func(ctx context.Context) error { _, err := store.Count(ctx, Scope{}); return err },
		"Scan": func(ctx context.Context) error {
			for _, err := range store.Scan(ctx, Scope{Workflow: "w"}) {
				return err
			}
			return nil
		},
		"ExtendWorkflow":  func(ctx context.Context) error { _, err := store.ExtendWorkflow(ctx, "w", time.Hour); return err },
		"DeleteWorkflow":  func(ctx context.Context) error { _, err := store.DeleteWorkflow(ctx, "w"); return err },
		"SetMetadata":     func(ctx context.Context) error { return store.SetMetadata(ctx, "m", []byte("x"), time.Hour) },
		"Metadata":        func(ctx context.Context) error { _, err := store.Metadata(ctx, "m"); return err },
		"DeleteMetadata":  func(ctx context.Context) error { _, err := store.DeleteMetadata(ctx, "m", "n"); return err },
		"Session.Get":     func(ctx context.Context) error { _, err := session.Get(ctx, "v"); return err },
		"Session.All":     func(ctx context.Context) error { _, err := session.All(ctx); return err },
		"Session.Set":     func(ctx context.Context) error { return session.Set(ctx, "v", 1) },
		"Session.Delete":  func(ctx context.Context) error { return session.Delete(ctx, "v") },
		"Session.Drop":    func(ctx context.Context) error { return session.Drop(ctx) },
		"Counters.Incr":   func(ctx context.Context) error { _, err := counters.Incr(ctx, "n", 1); return err },
		"Counters.Set":    func(ctx context.Context) error { return counters.SetGauge(ctx, "g", 1) },
		"Counters.Add":    func(ctx context.Context) error { _, err := counters.AddGauge(ctx, "g", 1); return err },
		"Counters.Delete": func(ctx context.Context) error { return counters.Delete(ctx, "n", "g") },
		"Snapshot":        func(ctx context.Context) error { _, err := counters.Snapshot(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := do(t.Context()); !errors.Is(err, ErrDenied) {
				t.Errorf("got %v, want ErrDenied", err)
			}
		})
	}
}
