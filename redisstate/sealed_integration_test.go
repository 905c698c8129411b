//go:build integration

package redisstate_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

func newRing(tb testing.TB, ids ...string) *redisstate.KeyRing {
	tb.Helper()
	var keys []redisstate.EncryptionKey
	for _, id := range ids {
		keys = append(keys, redisstate.EncryptionKey{ID: id, Key: bytes.Repeat([]byte((id + "................")[:16]), 2)})
	}
	ring, err := redisstate.NewKeyRing(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func TestConfigStore_on_redis_server_compressed_and_encrypted(t *testing.T) {
	t.Parallel()
	connect := hosts(t, redisstate.Options{URL: redistest.Start(t).URL()})
	for name, format := range map[string]redisstate.Options{
		"s2":              {Compression: redisstate.CompressionS2},
		"zstd":            {Compression: redisstate.CompressionZstd},
		"encrypted":       {Keys: newRing(t, "a")},
		"zstd, encrypted": {Keys: newRing(t, "b", "a"), Compression: redisstate.CompressionZstd, RequireEncryption: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.ConfigStore(t, func(tb testing.TB) contract.ConfigStoreBackend {
				b := contract.ConfigStoreOnRedis(tb, connect())
				open := b.Open
				b.Open = func(tb testing.TB, opts redisstate.Options) contract.Store {
					tb.Helper()
					opts.Compression, opts.Keys, opts.RequireEncryption = format.Compression, format.Keys, format.RequireEncryption
					return open(tb, opts)
				}
				return b
			})
		})
	}
}

// Overwrites, old refs and a rotation of keys, with everything switched on; and
// a secret in values, passwords and keys that may be found nowhere: not in
// Redis, its key names and logs included, and not in what we say.
func TestStore_encrypts_on_redis_server_through_overwrites_and_rotation(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry-s3cret-of-32-bytes-length"
	server := redistest.Start(t, redistest.WithUser("app", "on", ">"+canary, "~*", "&*", "+@all"), redistest.WithConfig("loglevel", "debug"))
	var log lockedLog
	registry := prometheus.NewRegistry()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ring, err := redisstate.NewKeyRing(redisstate.EncryptionKey{ID: "first", Key: []byte(canary)})
	if err != nil {
		t.Fatal(err)
	}
	o := redisstate.Options{
		URL: server.URLFor("app", canary), Compression: redisstate.CompressionZstd, Keys: ring, RequireEncryption: true, SlowThreshold: 1,
		Logger:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: registry, TracerProvider: provider,
	}
	conn, err := redisstate.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	open := func(keys *redisstate.KeyRing) *redisstate.Store {
		o := o
		o.Keys = keys
		store, err := redisstate.NewStore(conn.Client(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	writer := open(ring)
	refs := make(map[redisstate.Ref]string)
	save := func(n int) {
		t.Helper()
		value := fmt.Sprintf("%d %s", n, strings.Repeat(canary, 3))
		saved, err := writer.Set(t.Context(), redisstate.Entry{ID: "id", Workflow: "wf", Value: value})
		if err != nil {
			t.Fatal(err)
		}
		refs[saved[0]] = value
	}
	check := func(keys *redisstate.KeyRing) {
		t.Helper()
		reader := open(keys)
		for ref, want := range refs {
			config, err := reader.Get(t.Context(), ref.Key())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := redisstate.Decode[string](config); err != nil || *got != want {
				t.Fatalf("another content: %v", err)
			}
		}
	}
	for n := range 3 {
		save(n)
		check(ring)
	}
	first := redisstate.EncryptionKey{ID: "first", Key: []byte(canary)}
	if err := ring.Replace(redisstate.EncryptionKey{ID: "second", Key: []byte("another key of thirty-two bytes!")}, first); err != nil {
		t.Fatal(err)
	}
	save(2) // unchanged
	save(3)
	check(ring)
	var told []error
	for _, keys := range []*redisstate.KeyRing{newRing(t, "second"), newRing(t, "first")} {
		for ref := range refs {
			_, err := open(keys).Get(t.Context(), ref.Key())
			if !errors.Is(err, redisstate.ErrUnknownKey) {
				t.Fatalf("got %v; want ErrUnknownKey", err)
			}
			told = append(told, err)
		}
	}
	all := server.Client(t)
	names, err := all.Keys(t.Context(), "*").Result()
	if err != nil || len(names) != len(refs)+2 {
		t.Fatalf("keys %q, %v; want a current one, %d put aside and two indexes", names, err, len(refs)-1)
	}
	for _, name := range names {
		if strings.Contains(name, ":config:") {
			dump := all.Get(t.Context(), name).Val()
			told = append(told, errors.New(name), errors.New(dump))
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told = append(told, errors.New(log.String()), fmt.Errorf("%v", families), fmt.Errorf("%+v %v", o.Keys, ring))
	for _, span := range spans.Ended() {
		told = append(told, fmt.Errorf("%v", []any{span.Name(), span.Attributes(), span.Events(), span.Status()}))
	}
	if !strings.Contains(log.String(), "slow") || len(spans.Ended()) == 0 {
		t.Fatal("nothing was logged or traced; this test looks at too little")
	}
	for _, err := range told {
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(canary)), "=")} {
			if strings.Contains(err.Error(), form) {
				t.Errorf("the secret is in %.200q", err)
			}
		}
	}
}

// lockedLog is a log that many write.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
