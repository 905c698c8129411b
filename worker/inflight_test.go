package worker

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/redisstate"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leak.DeadDial())
}

func TestInflight(t *testing.T) {
	t.Parallel()

	t.Run("is idle at first", func(t *testing.T) {
		t.Parallel()
		var f inflight
		if !f.wait(t.Context(), 0) {
			t.Error("not idle")
		}
	})

	t.Run("waits for the last one", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var f inflight
			f.begin()
			f.begin()
			done := make(chan bool, 1)
			go func() { done <- f.wait(t.Context(), time.Hour) }()
			f.end()
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("idle with one running")
			default:
			}
			f.end()
			if !<-done {
				t.Error("not idle after the last one")
			}
			f.begin()
			if f.wait(t.Context(), time.Second) {
				t.Error("idle again with one running")
			}
		})
	})

	t.Run("gives up at its bound and with its context", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var f inflight
			f.begin()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if f.wait(ctx, time.Hour) || f.wait(t.Context(), time.Minute) {
				t.Error("idle with one running")
			}
		})
	})
}

// The heart of the stop: nothing closes under a running activity.
func TestRetireClosesAfterTheLastActivity(t *testing.T) {
	t.Parallel()
	plugin, err := NewPlugin(Options{
		Redis:        redisstate.Options{URL: "embedded://" + uuid.NewString()},
		Environment:  func(string) (string, bool) { return "", false },
		Registerer:   prometheus.NewRegistry(),
		Logger:       slog.New(slog.DiscardHandler),
		DrainTimeout: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	state, _ := plugin.worker("a")
	if _, err := plugin.start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	rt := plugin.rt
	res, release, err := workerHost{plugin, state}.Enter()
	if err != nil {
		t.Fatal(err)
	}
	plugin.stop(t.Context(), "a") // drain time-out passes, the activity still runs
	if _, err := res.Store.Set(t.Context(), redisstate.Entry{ID: "a", Value: 1}); err != nil {
		t.Errorf("the store closed under a running activity: %v", err)
	}
	early, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rt.await(early, time.Minute); err == nil {
		t.Error("the close does not tell of the running activity")
	}
	release()
	if err := rt.await(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	for range 100 {
		if err := rt.await(early, 0); err != nil {
			t.Fatalf("it is closed, and who has no time to wait for that hears %v", err)
		}
	}
	if _, err := res.Store.Set(t.Context(), redisstate.Entry{ID: "a", Value: 1}); err == nil {
		t.Error("the store is open after the last activity")
	}
	if err := plugin.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
