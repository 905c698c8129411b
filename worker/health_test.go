package worker

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/redistest/mini"
	"github.com/compozy/temporal-redis/redisstate"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func newMini(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	server := mini.Start(t)
	return server
}

// run starts a worker of a new plugin.
func run(t *testing.T, o Options) *Plugin {
	t.Helper()
	o.Environment = func(string) (string, bool) { return "", false }
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	plugin, err := NewPlugin(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plugin.start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		plugin.stop(context.Background(), "a")
		if err := plugin.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return plugin
}

func awaitState(t *testing.T, one *redisstate.Health, want redisstate.HealthState) {
	t.Helper()
	late := time.After(patience)
	for {
		changed := one.Changed()
		if one.Status().State == want {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("it is %+v, want %v", one.Status(), want)
		}
	}
}

func awaitAvailable(t *testing.T, h *health, want bool) {
	t.Helper()
	late := time.After(patience)
	for {
		changed := h.Changed()
		if h.Available() == want {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("available is %v", !want)
		}
	}
}

func (p *Plugin) readiness(t *testing.T) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	p.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

func TestReadyz_is_red_from_the_outage_to_its_end_and_asks_nothing(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	address := server.Addr()
	plugin := run(t, Options{Redis: redisstate.Options{URL: "redis://" + address}})
	h := plugin.rt.health
	for _, one := range h.all() {
		awaitState(t, one, redisstate.HealthUp)
	}
	if status, text := plugin.readiness(t); status != http.StatusOK {
		t.Errorf("it is %d, %s", status, text)
	}
	server.Close()
	awaitAvailable(t, h, false)
	began := time.Now()
	if status, text := plugin.readiness(t); status != http.StatusServiceUnavailable || strings.Contains(text, address) {
		t.Errorf("it is %d, %s", status, text)
	}
	if took := time.Since(began); took > readyTimeout/2 {
		t.Errorf("it took %v to say what is known", took)
	}
	mini.Restart(t, server)
	awaitAvailable(t, h, true)
	if status, text := plugin.readiness(t); status != http.StatusOK {
		t.Errorf("it is %d, %s", status, text)
	}
}

func TestReadyz_is_red_while_Redis_refuses_the_user(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	server.RequireAuth("before")
	plugin := run(t, Options{Redis: redisstate.Options{URL: "redis://:before@" + server.Addr()}})
	server.Close() // connections that are in stay in
	server.RequireAuth("after")
	mini.Restart(t, server)
	awaitAvailable(t, plugin.rt.health, false)
	if status, text := plugin.readiness(t); status != http.StatusServiceUnavailable || strings.Contains(text, "before") {
		t.Errorf("it is %d, %s", status, text)
	}
	server.Close() // it does not expect a change while it serves
	server.RequireAuth("before")
	mini.Restart(t, server)
	awaitAvailable(t, plugin.rt.health, true)
}

func TestHealth_needs_the_configs_and_a_majority_of_the_lock_masters(t *testing.T) {
	t.Parallel()
	configs, masters := newMini(t), []*miniredis.Miniredis{newMini(t), newMini(t), newMini(t)}
	o := Options{Redis: redisstate.Options{URL: "redis://" + configs.Addr()}, LockQuarantine: -1}
	for _, m := range masters {
		o.LockURLs = append(o.LockURLs, "redis://"+m.Addr())
	}
	plugin := run(t, o)
	h := plugin.rt.health
	for _, one := range h.all() {
		awaitState(t, one, redisstate.HealthUp)
	}
	if status, text := plugin.readiness(t); status != http.StatusOK {
		t.Fatalf("it is %d, %s", status, text)
	}

	masters[0].Close()
	awaitState(t, h.locks[0], redisstate.HealthDown)
	if !h.Available() {
		t.Error("one of three lock masters is enough to make it unavailable")
	}
	if status, text := plugin.readiness(t); status != http.StatusOK {
		t.Errorf("with two of three lock masters it is %d, %s", status, text)
	}

	masters[1].Close()
	awaitAvailable(t, h, false)
	mini.Restart(t, masters[1])
	awaitAvailable(t, h, true)
	configs.Close()
	awaitAvailable(t, h, false)
}

func TestHealth_watches_only_where_a_worker_runs(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	plugin, err := NewPlugin(Options{
		Redis:       redisstate.Options{URL: "redis://" + server.Addr()},
		Environment: func(string) (string, bool) { return "", false },
		Registerer:  prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := plugin.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Value: 1}); err != nil {
		t.Fatal(err)
	}
	if plugin.rt.health.started || plugin.rt.health.known() || !plugin.rt.health.Available() {
		t.Error("a client alone is watched")
	}
	if _, err := plugin.start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, one := range plugin.rt.health.all() {
		awaitState(t, one, redisstate.HealthUp)
	}
	h := plugin.rt.health
	plugin.stop(t.Context(), "a")
	if err := plugin.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.start() // too late
	h.close()
}
