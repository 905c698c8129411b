package redisstate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The canary is a password, an encryption key and a value in everything that
// happens here. It may be in no error, log line, metric, span or key name.
func TestCanary_is_found_nowhere(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry-s3cret-of-32-bytes-length"
	ring := ringOf(t, EncryptionKey{ID: "k1", Key: []byte(canary)})
	for name, o := range map[string]Options{
		"plain":     {},
		"encrypted": {Keys: ring, Compression: CompressionZstd, RequireEncryption: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lookForCanary(t, canary, o)
		})
	}
}

func lookForCanary(t *testing.T, canary string, format Options) {
	server := newServer(t)
	server.RequireUserAuth("app", canary)
	var log lockedBuffer
	registry := prometheus.NewRegistry()
	spans, provider := recorder(t)
	o := Options{
		URL: "redis://app:" + canary + "@" + server.Addr(), MaxConfigBytes: 1000, SlowThreshold: 1, MaxRetries: -1,
		Logger:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: registry, TracerProvider: provider,
	}
	o.Keys, o.Compression, o.RequireEncryption = format.Keys, format.Compression, format.RequireEncryption
	// A host's source fails on saving, decoding, the ref that is asked for, and by
	// a panic.
	o.Source = SourceFunc(func(_ context.Context, key Key) (Entry, error) {
		switch key.ID {
		case "large":
			return Entry{Workflow: "wf", Value: strings.Repeat(canary, 200)}, nil
		case "picky":
			return Entry{Workflow: "wf", Value: picky{canary}}, nil
		case "panics":
			panic(picky{canary})
		}
		return Entry{Workflow: "wf", Value: doc{canary, 3}}, nil
	})
	conn := connect(t, o)
	store := newStore(t, conn.Client(), o)
	var told []error
	tell := func(err error) { told = append(told, err) }
	sessions, err := NewSessions(conn.Client(), o)
	if err != nil {
		t.Fatal(err)
	}
	session, err := sessions.Open("execution")
	if err != nil {
		t.Fatal(err)
	}
	exercise := func() {
		ctx := t.Context()
		tell(conn.Check(ctx))
		report, err := conn.Inspect(ctx)
		tell(err)
		tell(fmt.Errorf("%+v", report))
		tell(store.SetMetadata(ctx, "meta", []byte(canary), 0))
		tell(store.SetMetadata(ctx, "meta", []byte(strings.Repeat(canary, 200)), 0))
		_, err = store.Metadata(ctx, "meta")
		tell(err)
		tell(session.SetMany(ctx, map[string]any{"a": canary, "b": picky{canary}}))
		tell(session.Set(ctx, "a", doc{canary, 1}))
		value, err := session.Get(ctx, "a")
		tell(err)
		_, err = DecodeSession[[]time.Time](value)
		tell(err)
		for _, id := range []string{"large", "picky", "panics", "made"} {
			_, err = store.Get(ctx, ID(id))
			tell(err)
			_, err = store.Get(ctx, Key{ID: id, Digest: Digest(DigestPrefix + strings.Repeat("0", 64))})
			tell(err)
		}
		for _, value := range []any{
			doc{canary, 1}, doc{canary, 2}, []byte(`{"a":"` + canary), picky{canary}, strings.Repeat(canary, 200), map[string]string{canary: canary},
		} {
			_, err := store.Set(ctx, Entry{ID: "id", Workflow: "wf", Value: value})
			tell(err)
		}
		config, err := store.Get(ctx, ID("id"))
		tell(err)
		_, err = Decode[picky](config)
		tell(err)
		_, err = Decode[[]time.Time](config)
		tell(err)
		_, err = store.GetMany(ctx, ID("id"), config.Ref.Key(), ID("none"))
		tell(err)
		for _, err := range store.Scan(ctx, Scope{Workflow: "wf"}) {
			tell(err)
		}
		_, err = store.Delete(ctx, config.Ref.Key())
		tell(err)
	}
	exercise()
	if err := server.Set("temporal-redis:config:id", canary); err != nil {
		t.Fatal(err)
	}
	exercise()
	if format.Keys != nil {
		o.Logger.Info("options", "keys", o.Keys)
		for _, keys := range [][]EncryptionKey{{{ID: "k1", Key: []byte(strings.ToLower(canary))}}, {{ID: "k2", Key: []byte(canary)}}, {{ID: canary + canary, Key: []byte(canary)}}, {{ID: "k3", Key: []byte(canary + canary)}}} {
			ring, err := NewKeyRing(keys...)
			tell(err)
			if err == nil {
				o := o
				o.Keys = ring
				_, err = newStore(t, conn.Client(), o).Get(t.Context(), ID("id"))
				tell(err)
			}
		}
		_, err := ParseEncryptionKeys("k1:" + canary + "," + canary + ":k1")
		tell(err)
		if raw, err := server.Get("temporal-redis:config:id"); err == nil && strings.Contains(raw, canary) {
			t.Error("in what is stored")
		}
	}
	for _, reply := range []string{
		"OOM command not allowed", "NOPERM no permissions", "EXECABORT Transaction discarded because of previous errors.",
		"ERR unknown command 'set', with args beginning with: 'id' '" + canary + "' 'px'",
	} {
		server.SetError(reply)
		exercise()
	}
	server.SetError("")
	for _, key := range server.Keys() {
		told = append(told, errors.New(key))
	}
	server.Close()
	exercise()
	_, err = Connect(t.Context(), Options{URL: "redis://app:" + canary + "@host:port", Registerer: registry})
	tell(err)
	for _, name := range []string{"REDIS_ENCRYPTION_KEYS_FILE", "REDIS_TLS_KEY"} { // what it was to name a file of
		o, err := OptionsFromEnv(Options{URL: "rediss://h", TLS: TLSOptions{CertFile: "/dev/null"}}, func(asked string) (string, bool) { return canary, asked == name })
		tell(err)
		if err == nil {
			_, err = Connect(t.Context(), o)
			tell(err)
		}
		if err == nil {
			t.Errorf("%s names no file, and nobody says so", name)
		}
	}
	tell(Options{URL: "redis://app:" + canary + "/@host", Username: canary, Password: canary}.Validate())

	errs := 0
	for _, err := range told {
		if err != nil {
			errs++
			for cause := err; cause != nil; cause = errors.Unwrap(cause) { // Temporal records the text of each
				if strings.Contains(cause.Error(), canary) {
					t.Errorf("in an error: %v", cause)
				}
			}
		}
	}
	if errs < 20 {
		t.Errorf("only %d errors were seen; this test looks at too little", errs)
	}
	if text := log.String(); strings.Contains(text, canary) || !strings.Contains(text, "slow") {
		t.Errorf("in the log, or nothing there: %s", text)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(families); strings.Contains(text, canary) || len(families) == 0 {
		t.Errorf("in the metrics, or nothing there: %s", text)
	}
	for _, span := range spans.Ended() {
		if text := fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Status()); strings.Contains(text, canary) || strings.Contains(text, "config:") {
			t.Errorf("in a span: %s", text)
		}
	}
}
