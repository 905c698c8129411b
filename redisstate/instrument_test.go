package redisstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// counting is a hook that counts commands and pipelines.
type counting struct{ commands, pipelines atomic.Int64 }

func (c *counting) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.commands.Add(1); return next(ctx, cmd) }
}
func (c *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.pipelines.Add(1); return next(ctx, cmds) }
}

// recorder collects spans.
func recorder(t *testing.T) (*tracetest.SpanRecorder, trace.TracerProvider) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return spans, provider
}

// lockedBuffer may be written to at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// handshakes are the spans of new connections.
var handshakes = []string{"HELLO", "PIPELINE", "AUTH", "CLIENT", "SELECT"}

func TestInstrument_makes_a_span_per_operation(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	spans, provider := recorder(t)
	conn := connect(t, Options{URL: "redis://" + server.Addr() + "/2", TracerProvider: provider})
	store := newStore(t, conn.Client(), quiet())
	ctx, parent := provider.Tracer("test").Start(t.Context(), "activity")
	if _, err := store.Set(ctx, Entry{ID: "id", Workflow: "wf", Value: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(ctx, ID("missing")); err == nil {
		t.Fatal("found what is not there")
	}
	server.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	if _, err := store.Get(ctx, ID("id")); err == nil {
		t.Fatal("no error")
	}
	parent.End()
	var names []string
	for _, span := range spans.Ended() {
		if span.Name() == "activity" || (slices.Contains(handshakes, span.Name()) && span.Name() != "PIPELINE") {
			continue
		}
		if span.Name() == "PIPELINE" {
			continue // the handshake's
		}
		names = append(names, span.Name())
		if span.Parent().SpanID() != parent.SpanContext().SpanID() || span.SpanKind() != trace.SpanKindClient {
			t.Errorf("%s is not a client span of the activity", span.Name())
		}
		attrs := attribute.NewSet(span.Attributes()...)
		for key, want := range map[attribute.Key]string{
			"db.system.name": "redis", "db.operation.name": span.Name(), "server.address": "127.0.0.1", "db.namespace": "2",
		} {
			if got, _ := attrs.Value(key); got.AsString() != want {
				t.Errorf("%s: %s is %q; want %q", span.Name(), key, got.AsString(), want)
			}
		}
		if _, ok := attrs.Value("server.port"); !ok {
			t.Errorf("%s has no server.port", span.Name())
		}
		if size, ok := attrs.Value("db.operation.batch.size"); ok != (span.Name() == "MULTI") || (ok && size.AsInt64() != 4) {
			t.Errorf("%s has a batch of %d", span.Name(), size.AsInt64())
		}
		failed := span.Status().Code == codes.Error
		if kind, _ := attrs.Value("error.type"); failed != (kind.AsString() == "unavailable") {
			t.Errorf("%s failed: %v, of type %q", span.Name(), failed, kind.AsString())
		}
	}
	if want := []string{"MULTI", "GET", "GET"}; !slices.Equal(names, want) {
		t.Fatalf("the spans are %v; want %v", names, want)
	}
	if last := spans.Ended()[len(spans.Ended())-2]; last.Status().Code != codes.Error {
		t.Errorf("the outage is not in the last span: %v", last.Status())
	}
}

func TestInstrument_measures_with_bounded_labels(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	registry := prometheus.NewRegistry()
	conn := connect(t, Options{URL: "redis://" + server.Addr(), Registerer: registry})
	client := conn.Client()
	for i := range 20 {
		_ = client.Do(t.Context(), fmt.Sprintf("invented%d", i), "x").Err()
	}
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	_ = client.Get(t.Context(), "missing").Err()
	if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Get(t.Context(), "missing")
		p.LPush(t.Context(), "k", "x")
		return nil
	}); err == nil {
		t.Fatal("no error")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]uint64)
	for _, family := range families {
		if family.GetName() != "redis_operation_duration_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			got[strings.Join(labels, " ")] = metric.GetHistogram().GetSampleCount()
		}
	}
	for labels, want := range map[string]uint64{"other permanent": 20, "set ok": 1, "get ok": 1, "pipeline permanent": 1} {
		if got[labels] != want {
			t.Errorf("%s: counted %d; want %d of %v", labels, got[labels], want, got)
		}
	}
	for labels := range got {
		if strings.Contains(labels, "invented") {
			t.Errorf("a label is %q", labels)
		}
	}
	if n := testutil.CollectAndCount(registry, "redis_operation_duration_seconds"); n > 12 {
		t.Errorf("%d series", n)
	}
}

func TestInstrument_warns_about_slow_operations_only(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		threshold time.Duration
		command   []any
		warns     bool
	}{
		"slow":     {time.Nanosecond, []any{"get", "C4n4ry"}, true},
		"fast":     {time.Hour, []any{"get", "C4n4ry"}, false},
		"never":    {-1, []any{"get", "C4n4ry"}, false},
		"blocking": {time.Nanosecond, []any{"blpop", "C4n4ry", "0.01"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out lockedBuffer
			conn := connect(t, Options{
				URL: "redis://" + newServer(t).Addr(), SlowThreshold: test.threshold, Logger: slog.New(slog.NewTextHandler(&out, nil)),
			})
			_ = conn.Client().Do(t.Context(), test.command...).Err()
			line := ""
			for l := range strings.SplitSeq(out.String(), "\n") {
				if strings.Contains(l, "op="+test.command[0].(string)) {
					line = l
				}
			}
			if warned := strings.Contains(line, "level=WARN") && strings.Contains(line, "duration="); warned != test.warns {
				t.Fatalf("logged %q", out.String())
			}
			if strings.Contains(out.String(), "C4n4ry") {
				t.Fatalf("the key is in the log: %q", out.String())
			}
		})
	}
}

func TestInstrument_does_not_call_an_outage_slow(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	var out lockedBuffer
	conn := connect(t, Options{
		URL: "redis://" + server.Addr(), SlowThreshold: time.Nanosecond, MaxRetries: -1, Logger: slog.New(slog.NewTextHandler(&out, nil)),
	})
	server.Close()
	if err := conn.Client().Get(t.Context(), "k").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(out.String(), "op=get") {
		t.Errorf("logged %q", out.String())
	}
}

func TestInstrument_adds_itself_once_to_the_hosts_client(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	spans, provider := recorder(t)
	for range 3 {
		o := quiet()
		o.Client, o.InstrumentClient, o.TracerProvider = client, true, provider
		if _, err := Connect(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	_ = client.Get(t.Context(), "k").Err()
	n := 0
	for _, span := range spans.Ended() {
		if span.Name() == "GET" {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("one GET made %d spans", n)
	}
}
