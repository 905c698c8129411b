//go:build integration

package redisstate

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

// samples are task configs of about 2 KB of JSON from sixteen trades, with
// prompts, tokens and schemas of their own. None of the dictionary was taken
// from them.
func samples(tb testing.TB) map[string]json.RawMessage {
	tb.Helper()
	files, err := filepath.Glob("testdata/configs/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no sample configs: %v", err)
	}
	all := make(map[string]json.RawMessage, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[filepath.Base(file)] = text
	}
	return all
}

// What Redis itself says that a config takes, key and all, against its JSON and
// against what a SET of its JSON takes.
func TestCompression_halves_what_a_config_takes_in_Redis(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "2026-03")
	client := redistest.Start(t).Client(t)
	_, plain, bare := memoryOf(t, client, Options{Namespace: "plain"})
	for name, test := range map[string]struct {
		o     Options
		limit float64
	}{
		"none":            {Options{}, 1.15},
		"s2":              {Options{Compression: CompressionS2}, 0.6},
		"zstd":            {Options{Compression: CompressionZstd}, 0.5},
		"zstd, encrypted": {Options{Compression: CompressionZstd, Keys: ring}, 0.55},
		"encrypted":       {Options{Keys: ring}, 1.2},
	} {
		test.o.Namespace = strings.ReplaceAll(name, ", ", "-")
		taken, _, _ := memoryOf(t, client, test.o)
		ratio := float64(taken) / float64(bare)
		t.Logf("%s: %d bytes in Redis for %d bytes of JSON (%.2f), which take %d as they are (%.2f)",
			name, taken, plain, float64(taken)/float64(plain), bare, ratio)
		if ratio > test.limit {
			t.Errorf("%s: ratio %.2f; want at most %.2f", name, ratio, test.limit)
		}
	}
}

func memoryOf(tb testing.TB, client *redis.Client, o Options) (taken, plain, bare int64) {
	tb.Helper()
	o.Registerer = prometheus.NewRegistry()
	store := newStore(tb, client, o)
	usage := func(key string) int64 {
		n, err := client.MemoryUsage(tb.Context(), key).Result()
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	for file, text := range samples(tb) {
		id := "31Qn" + fmt.Sprintf("%x", sha256.Sum256([]byte(file)))[:23] // as long as a KSUID
		if _, err := store.Set(tb.Context(), Entry{ID: id, Workflow: "31QmZZ0cJp6sYhW8fKx2ZtNv4BdE", Value: text}); err != nil {
			tb.Fatal(err)
		}
		config, err := store.Get(tb.Context(), ID(id))
		if err != nil {
			tb.Fatal(err)
		}
		alone := store.space.Metadata(id)
		if err := client.Set(tb.Context(), alone, []byte(config.JSON()), time.Hour).Err(); err != nil {
			tb.Fatal(err)
		}
		taken, bare, plain = taken+usage(store.space.Config(id)), bare+usage(alone), plain+int64(config.Size())
	}
	return taken, plain, bare
}
