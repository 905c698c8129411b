//go:build integration

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

func TestPipelineOnRealServers(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), nil)
	s.work(t, registerPipeline)
	id := newID()
	collect := s.watch(ctx, t, id)
	run := s.startAs(ctx, t, id, pipeline, s.save(ctx, t, pipelineConfigs()...))
	var result string
	if err := run.Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	if result != "one two! three" {
		t.Errorf("result is %q", result)
	}

	events := collect()
	t.Run("every event comes once, in order, of this run", func(t *testing.T) {
		for i, ev := range events {
			if ev.RunID != run.GetRunID() || (i > 0 && ev.ID <= events[i-1].ID) {
				t.Errorf("event %d is %+v", i, ev)
			}
		}
	})
	t.Run("each task ends with a final status", func(t *testing.T) {
		final := map[string]notifier.Status{}
		for _, ev := range events {
			if ev.Final {
				final[ev.TaskID] = ev.Status
			}
		}
		want := map[string]notifier.Status{
			"": "SUCCESS", "first": "SUCCESS", "left": "SUCCESS", "right": "SUCCESS", "shout": "SUCCESS", "broken": "FAILED",
		}
		if fmt.Sprint(final) != fmt.Sprint(want) {
			t.Errorf("final statuses %v, want %v", final, want)
		}
	})
	t.Run("the critical one waits for its lock before it runs", func(t *testing.T) {
		var statuses []notifier.Status
		for _, ev := range events {
			if ev.TaskID == "first" {
				statuses = append(statuses, ev.Status)
			}
		}
		want := []notifier.Status{"PENDING", "WAITING", "RUNNING", "SUCCESS", "SUCCESS"}
		if !slices.Equal(statuses, want) {
			t.Errorf("statuses %v, want %v", statuses, want)
		}
	})
	t.Run("the metrics of the requirements are served", func(t *testing.T) {
		recorder := httptest.NewRecorder()
		s.plugin.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
		body, err := io.ReadAll(recorder.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{
			`(?m)^redis_cache_hits\{cache="near"\} [1-9]`,
			`(?m)^redis_lock_contention_total \d`,
			`(?m)^redis_pubsub_msgs_total\{direction="published"\} [1-9]`,
			`(?m)^redis_pubsub_msgs_total\{direction="received"\} [1-9]`,
		} {
			if !regexp.MustCompile(pattern).Match(body) {
				t.Errorf("/metrics has nothing like %s", pattern)
			}
		}
	})
}

// Temporal's spans and Redis' share one trace, and nothing of a config, a
// password or a key gets into it.
func TestOneTraceWithoutValues(t *testing.T) {
	t.Parallel()
	const canary = "canary-93ab51"
	ctx := bounded(t)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	server := redistest.Start(t, redistest.WithPassword(canary))
	s := newStage(t, server.URL(), func(o *worker.Options) {
		o.TracerProvider = provider
		o.Redis.Password = canary
		o.Redis.NearCacheBytes = -1 // every read goes to Redis
	})
	s.work(t, registerPipeline)

	ctx, root := provider.Tracer("test").Start(ctx, "root")
	refs := s.save(ctx, t, redisstate.Entry{ID: "e2e/" + canary, Value: stepConfig{canary}})
	run := s.start(ctx, t, pipeline, []redisstate.Ref{refs[0], refs[0], refs[0]})
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	root.End()

	trace := root.SpanContext().TraceID()
	var activitySpans, redisInActivities int
	parents := map[string]string{}
	for _, span := range spans.GetSpans() {
		parents[span.SpanContext.SpanID().String()] = span.Name
	}
	for _, span := range spans.GetSpans() {
		text := fmt.Sprint(span.Name, span.Attributes, span.Events, span.Status)
		if strings.Contains(text, canary) {
			t.Errorf("span %s tells the canary: %s", span.Name, text)
		}
		if span.SpanContext.TraceID() != trace {
			continue
		}
		if strings.HasPrefix(span.Name, "RunActivity:") {
			activitySpans++
		}
		isRedis := slices.ContainsFunc(span.Attributes, func(kv attribute.KeyValue) bool {
			return kv.Key == "db.system.name" && kv.Value.AsString() == "redis"
		})
		if isRedis && strings.HasPrefix(parents[span.Parent.SpanID().String()], "RunActivity:read") {
			redisInActivities++
		}
	}
	if activitySpans < 4 || redisInActivities == 0 {
		t.Errorf("%d activity spans and %d Redis spans inside of them in the root's trace", activitySpans, redisInActivities)
	}

	// The password must work, or the canary above proves nothing.
	if err := redis.NewClient(&redis.Options{Addr: server.Addr()}).Ping(ctx).Err(); err == nil {
		t.Error("the server asks for no password")
	}
}
