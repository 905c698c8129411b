package locking

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestManager_counts_and_times_what_happens_to_leases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		registry := prometheus.NewRegistry()
		open := func() *Manager {
			m, err := newManager(fake, systemClock, Options{Registerer: registry, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			m.waiter = pollWaiter{}
			t.Cleanup(func() { _ = m.Close(context.Background()) })
			return m
		}
		one, other := open(), open() // they share the registry, as workers of a process do
		lease := acquire(t, one, "r")
		_, err := other.Acquire(t.Context(), "r", WithWait(2*time.Second))
		wantErr(t, err, ErrNotAcquired)
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		lost := acquire(t, one, "r")
		fake.flush()
		over(t, lost.Context())
		synctest.Wait()
		err = testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP redis_lock_acquire_total Lock acquisitions, by outcome.
# TYPE redis_lock_acquire_total counter
redis_lock_acquire_total{outcome="acquired"} 2
redis_lock_acquire_total{outcome="contended"} 1
# HELP redis_lock_contention_total Lock acquisitions that found the lock held by another.
# TYPE redis_lock_contention_total counter
redis_lock_contention_total 1
# HELP redis_lock_lost_total Leases that ended before their release, by reason.
# TYPE redis_lock_lost_total counter
redis_lock_lost_total{reason="gone"} 1
`), "redis_lock_acquire_total", "redis_lock_contention_total", "redis_lock_lost_total")
		if err != nil {
			t.Error(err)
		}
		for _, metric := range []string{"redis_lock_wait_seconds", "redis_lock_hold_seconds"} {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				if h := family.GetMetric()[0].GetHistogram(); family.GetName() == metric && h.GetSampleCount() != 2 {
					t.Errorf("%s has %d samples; want 2", metric, h.GetSampleCount())
				}
			}
		}
	})
}

func TestManager_tells_no_name_to_traces_logs_and_errors(t *testing.T) {
	t.Parallel()
	const canary = "canary-resource"
	var (
		told  bytes.Buffer
		spans = tracetest.NewSpanRecorder()
		fake  = newFake()
	)
	m, err := newManager(fake, systemClock, Options{
		Registerer:     prometheus.NewRegistry(),
		Logger:         slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.waiter = pollWaiter{}
	lease := acquire(t, m, canary)
	_, held := m.Acquire(t.Context(), canary, WithWait(0))
	wantErr(t, held, ErrNotAcquired)
	fake.flush()
	gone := lease.Release(t.Context())
	wantErr(t, gone, ErrNotHeld)
	kept := acquire(t, m, canary)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, closed := m.Acquire(t.Context(), canary)
	fmt.Fprintln(&told, held, gone, kept.Err(), closed)

	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
		fmt.Fprintln(&told, span.Name(), span.Attributes(), span.Events(), span.Status())
	}
	if got := strings.Join(names, " "); got != "lock.acquire lock.acquire lock.release lock.acquire" {
		t.Errorf("spans: %s", got)
	}
	if !strings.Contains(told.String(), "lease lost") {
		t.Error("the loss was not logged")
	}
	if strings.Contains(told.String(), canary) || strings.Contains(told.String(), lease.token) {
		t.Errorf("a name or a token was told:\n%s", told.String())
	}
}

func TestManagers_of_different_namespaces_do_not_meet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		acquire(t, fakeManager(t, fake, Options{Namespace: "a"}), "r", WithWait(0))
		acquire(t, fakeManager(t, fake, Options{Namespace: "b"}), "r", WithWait(0))
	})
}
