package compozy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/compozy"
	"github.com/compozy/temporal-redis/redisstate"
)

// TaskConfig stands for Compozy's task.Config.
type TaskConfig struct {
	ID   string            `json:"id"`
	Type string            `json:"type,omitempty"`
	With map[string]any    `json:"with,omitempty"`
	Env  map[string]string `json:"env,omitempty"`
	Next *string           `json:"next,omitempty"`
}

// theirs is Compozy's services.ConfigStore, word for word but for the type's
// name.
type theirs interface {
	Save(ctx context.Context, taskExecID string, config *TaskConfig) error
	Get(ctx context.Context, taskExecID string) (*TaskConfig, error)
	Delete(ctx context.Context, taskExecID string) error
	SaveMetadata(ctx context.Context, key string, data []byte) error
	GetMetadata(ctx context.Context, key string) ([]byte, error)
	DeleteMetadata(ctx context.Context, key string) error
	Close() error
}

var (
	_ theirs        = (*compozy.ConfigStore[TaskConfig])(nil)
	_ compozy.Store = (*redisstate.Store)(nil)
)

// newStore is a store on a Redis of its own.
func newStore(t testing.TB) (*redisstate.Store, *redisstate.Conn) {
	t.Helper()
	options := redisstate.Options{URL: "embedded://" + uuid.NewString(), Registerer: prometheus.NewRegistry()}
	conn, err := redisstate.Connect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstate.NewStore(conn.Client(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store, conn
}

func newConfigs(t testing.TB) theirs {
	t.Helper()
	store, _ := newStore(t)
	return compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const execID = "2xkFZq0uWvZl5kT0m3N4P5Q6R7S"

func TestConfigStore_gives_back_what_was_saved(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	next := "second"
	saved := &TaskConfig{ID: "first", Type: "basic", With: map[string]any{"n": 1.5, "list": []any{"a", nil}}, Env: map[string]string{"K": "v"}, Next: &next}
	must(t, s.Save(t.Context(), execID, saved))
	got, err := s.Get(t.Context(), execID)
	if err != nil || fmt.Sprint(got.With, got.Env, got.ID, got.Type, *got.Next) != fmt.Sprint(saved.With, saved.Env, saved.ID, saved.Type, next) {
		t.Fatalf("got %+v, %v", got, err)
	}
	must(t, s.Save(t.Context(), execID, &TaskConfig{ID: "other"}))
	if got, err := s.Get(t.Context(), execID); err != nil || got.ID != "other" || got.Env != nil {
		t.Fatalf("after an overwrite: %+v, %v", got, err)
	}
}

func TestConfigStore_gives_each_caller_a_copy_to_change(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	must(t, s.Save(t.Context(), execID, &TaskConfig{ID: "a", Env: map[string]string{"K": "v"}}))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				got, err := s.Get(t.Context(), execID)
				if err != nil || len(got.Env) != 1 || got.Env["K"] != "v" {
					t.Errorf("got %+v, %v", got, err)
					return
				}
				got.Env[fmt.Sprint(i)] = "mine"
				got.Env["K"] = "changed"
			}
		})
	}
	all.Wait()
	data := []byte("abc")
	must(t, s.SaveMetadata(t.Context(), "k", data))
	data[0] = 'x'
	for range 2 {
		got, err := s.GetMetadata(t.Context(), "k")
		if err != nil || string(got) != "abc" {
			t.Fatalf("got %q, %v", got, err)
		}
		got[0] = 'y'
	}
}

func TestConfigStore_says_not_found_in_their_words(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	must(t, s.Save(t.Context(), "gone", &TaskConfig{ID: "a"}))
	must(t, s.Delete(t.Context(), "gone"))
	must(t, s.SaveMetadata(t.Context(), "gone", []byte("1")))
	must(t, s.DeleteMetadata(t.Context(), "gone"))
	for _, id := range []string{execID, "gone", "with space: %s %d", "ä"} {
		config, err := s.Get(t.Context(), id)
		data, metadataErr := s.GetMetadata(t.Context(), id)
		if config != nil || data != nil {
			t.Fatalf("got %v, %q", config, data)
		}
		for text, err := range map[string]error{"config not found for taskExecID " + id: err, "metadata not found for key " + id: metadataErr} {
			if err == nil || err.Error() != text {
				t.Errorf("got %v; want %s", err, text)
			}
			if !errors.Is(err, compozy.ErrNotFound) || !errors.Is(err, redisstate.ErrNotFound) {
				t.Errorf("%v is not ErrNotFound", err)
			}
			if wrapped := fmt.Errorf("failed to get task config: %w", err); !errors.Is(wrapped, compozy.ErrNotFound) {
				t.Errorf("%v is not ErrNotFound", wrapped)
			}
		}
	}
}

func TestConfigStore_deletes_what_is_not_there(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	for range 2 {
		must(t, s.Delete(t.Context(), execID))
		must(t, s.DeleteMetadata(t.Context(), execID))
	}
}

func TestConfigStore_keeps_metadata_and_configs_apart(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	must(t, s.Save(t.Context(), "same", &TaskConfig{ID: "config"}))
	for _, data := range [][]byte{[]byte(`{"strategy":"wait_all"}`), {}, {0, 255, '\n'}, []byte("not JSON")} {
		must(t, s.SaveMetadata(t.Context(), "same", data))
		got, err := s.GetMetadata(t.Context(), "same")
		if err != nil || got == nil || !bytes.Equal(got, data) {
			t.Fatalf("got %q, %v; want %q", got, err, data)
		}
	}
	must(t, s.DeleteMetadata(t.Context(), "same"))
	if got, err := s.Get(t.Context(), "same"); err != nil || got.ID != "config" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestConfigStore_refuses_in_their_words(t *testing.T) {
	t.Parallel()
	s := newConfigs(t)
	ctx := t.Context()
	over, cancel := context.WithCancel(ctx)
	cancel()
	get := func(ctx context.Context, id string) error { _, err := s.Get(ctx, id); return err }
	getMetadata := func(ctx context.Context, key string) error { _, err := s.GetMetadata(ctx, key); return err }
	for _, test := range []struct {
		err  error
		text string
		is   error
	}{
		{s.Save(ctx, "", &TaskConfig{}), "taskExecID cannot be empty", redisstate.ErrInvalidKey},
		{s.Save(ctx, execID, nil), "config cannot be nil", redisstate.ErrInvalidValue},
		{get(ctx, ""), "taskExecID cannot be empty", redisstate.ErrInvalidKey},
		{s.Delete(ctx, ""), "taskExecID cannot be empty", redisstate.ErrInvalidKey},
		{s.SaveMetadata(ctx, "", []byte("x")), "key cannot be empty", redisstate.ErrInvalidKey},
		{s.SaveMetadata(ctx, "k", nil), "data cannot be nil", redisstate.ErrInvalidValue},
		{getMetadata(ctx, ""), "key cannot be empty", redisstate.ErrInvalidKey},
		{s.DeleteMetadata(ctx, ""), "key cannot be empty", redisstate.ErrInvalidKey},
		{s.Save(over, execID, &TaskConfig{}), "context canceled: context canceled", context.Canceled},
		{get(over, ""), "context canceled: context canceled", context.Canceled},
		{getMetadata(over, "k"), "context canceled: context canceled", context.Canceled},
	} {
		if test.err == nil || test.err.Error() != test.text || !errors.Is(test.err, test.is) {
			t.Errorf("got %v; want %s", test.err, test.text)
		}
	}
}

// exact reads numbers as they are written.
type exact struct{}

func (exact) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

func (exact) Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

func TestConfigStore_reads_by_the_stores_codec(t *testing.T) {
	t.Parallel()
	_, conn := newStore(t)
	store, err := redisstate.NewStore(conn.Client(), redisstate.Options{Codec: exact{}, Registerer: prometheus.NewRegistry()})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	s := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
	must(t, s.Save(t.Context(), execID, &TaskConfig{With: map[string]any{"n": 1}}))
	got, err := s.Get(t.Context(), execID)
	must(t, err)
	if n := got.With["n"]; n != json.Number("1") {
		t.Errorf("got %#v; want what the Codec makes of it", n)
	}
}

func TestConfigStore_errors_are_one_line_without_values(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry"
	store, conn := newStore(t)
	s := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
	must(t, conn.Client().Set(t.Context(), "temporal-redis:config:bad", canary, time.Hour).Err())
	_, err := store.Set(t.Context(),
		redisstate.Entry{ID: "other", Value: map[string]any{"id": map[string]int{canary: 1}}},
		redisstate.Entry{ID: "below", Value: map[string]any{"env": map[string]any{canary: []string{canary}}}})
	must(t, err)
	_, bad := s.Get(t.Context(), "bad")
	_, other := s.Get(t.Context(), "other")
	_, below := s.Get(t.Context(), "below")
	for _, err := range []error{bad, other, below} {
		if !errors.Is(err, redisstate.ErrCorrupt) || errors.Is(err, compozy.ErrNotFound) || !strings.HasPrefix(err.Error(), "failed to get config for taskExecID ") {
			t.Errorf("got %v", err)
		}
	}
	_, hostile := s.Get(t.Context(), "a\nb\x1b")
	_, long := s.Get(t.Context(), strings.Repeat("x", 10_000))
	huge := s.Save(t.Context(), "huge", &TaskConfig{ID: strings.Repeat(canary, 1<<20)})
	if !errors.Is(hostile, compozy.ErrNotFound) || !errors.Is(long, redisstate.ErrInvalidKey) || !errors.Is(huge, redisstate.ErrTooLarge) {
		t.Errorf("got %v, %v, %v", hostile, long, huge)
	}
	must(t, conn.Close())
	away := s.Save(t.Context(), "away", &TaskConfig{ID: canary})
	for _, err := range []error{bad, other, below, hostile, long, huge, away} {
		if text := err.Error(); strings.Contains(text, canary) || strings.ContainsAny(text, "\n\x1b") || len(text) > 400 {
			t.Errorf("got %q", text)
		}
	}
}

func TestConfigStore_lists_configs_under_the_workflow_that_the_host_says(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	s := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{
		Workflow: func(id string, config *TaskConfig) string { return "run-of-" + id[:1] + config.ID },
		TTL:      time.Hour,
	})
	for _, id := range []string{"a1", "a2", "b1"} {
		must(t, s.Save(t.Context(), id, &TaskConfig{ID: "x"}))
	}
	seen := map[string]bool{}
	for key, err := range store.Scan(t.Context(), redisstate.Scope{Workflow: "run-of-ax"}) {
		must(t, err)
		seen[key.ID] = true
	}
	if len(seen) != 2 || !seen["a1"] || !seen["a2"] {
		t.Errorf("listed %v", seen)
	}
}

func TestConfigStore_Close_leaves_the_store_open(t *testing.T) {
	t.Parallel()
	store, conn := newStore(t)
	s := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
	other := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
	must(t, s.Save(t.Context(), execID, &TaskConfig{ID: "a"}))
	for range 2 {
		must(t, s.Close())
	}
	if _, err := s.Get(t.Context(), execID); !errors.Is(err, redisstate.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got, err := other.Get(t.Context(), execID); err != nil || got.ID != "a" {
		t.Errorf("the other adapter gives %+v, %v", got, err)
	}
	must(t, conn.Check(t.Context()))
}

func ExampleNewConfigStore() {
	ctx := context.Background()
	options := redisstate.Options{URL: "embedded://compozy", Registerer: prometheus.NewRegistry()}
	conn, err := redisstate.Connect(ctx, options)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	store, err := redisstate.NewStore(conn.Client(), options)
	if err != nil {
		panic(err)
	}
	defer store.Close()

	configs := compozy.NewConfigStore(store, compozy.Options[TaskConfig]{})
	if err := configs.Save(ctx, "2xkF", &TaskConfig{ID: "greet"}); err != nil {
		panic(err)
	}
	config, err := configs.Get(ctx, "2xkF")
	fmt.Println(config.ID, err)
	_, err = configs.Get(ctx, "none")
	fmt.Println(err, errors.Is(err, compozy.ErrNotFound))
	// Output:
	// greet <nil>
	// config not found for taskExecID none true
}
