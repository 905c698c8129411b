package redisstate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func awaitHealth(t *testing.T, h *Health, want HealthState) HealthStatus {
	t.Helper()
	late := time.After(patience)
	for {
		changed := h.Changed()
		if s := h.Status(); s.State == want {
			return s
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("it is %+v, want %v", h.Status(), want)
		}
	}
}

func TestHealth_follows_Redis_once_it_is_started(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"our client": true, "a client of the host's": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			o := quiet()
			if own {
				o.URL = "redis://" + server.Addr()
			} else {
				o.Client = newClient(t, server)
			}
			conn := connect(t, o)
			if err := conn.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := conn.Health().Status(); s != (HealthStatus{}) || s.State.String() != "unknown" || len(server.Keys()) != 0 {
				t.Errorf("before the start it is %+v and there are %q", s, server.Keys())
			}
			conn.Health().Start()
			conn.Health().Start()
			awaitHealth(t, conn.Health(), HealthUp)
			server.Close()
			if s := awaitHealth(t, conn.Health(), HealthDown); s.Reason == "" || s.Denied || s.Since.IsZero() {
				t.Errorf("it is %+v", s)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := conn.Health().AwaitAvailable(ctx); !errors.Is(err, context.Canceled) || conn.Health().Available() {
				t.Errorf("got %v", err)
			}
			mini.Restart(t, server)
			if err := conn.Health().AwaitAvailable(t.Context()); err != nil {
				t.Error(err)
			}
			awaitHealth(t, conn.Health(), HealthUp)
		})
	}
}

func TestHealth_tells_a_password_that_was_changed(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	server.RequireAuth("before")
	var log lockedBuffer
	o := quiet()
	o.URL, o.Logger = "redis://:before@"+server.Addr(), slog.New(slog.NewTextHandler(&log, nil))
	conn := connect(t, o)
	conn.Health().Start()
	awaitHealth(t, conn.Health(), HealthUp)
	server.Close() // connections that are in stay in
	server.RequireAuth("after")
	mini.Restart(t, server)
	for s := awaitHealth(t, conn.Health(), HealthDown); !s.Denied; s = conn.Health().Status() {
		if time.Since(s.Since) > patience {
			t.Fatalf("it is %+v", s)
		}
	}
	if s := conn.Health().Status(); s.Reason != "denied" {
		t.Errorf("it is %+v", s)
	}
	server.Close() // it does not expect a change while it serves
	server.RequireAuth("before")
	mini.Restart(t, server)
	awaitHealth(t, conn.Health(), HealthUp)
	text := log.String()
	if strings.Count(text, "level=ERROR") != 1 || strings.Contains(text, "before") || strings.Contains(text, "after") {
		t.Errorf("the log is %s", text)
	}
}

func TestHealth_hears_what_traffic_meets(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	host := newClient(t, server)
	// The host's client was in a connection before, and our hook stays on it.
	earlier := quiet()
	earlier.Client, earlier.InstrumentClient = host, true
	if err := connect(t, earlier).Close(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"our client":                  {URL: "redis://" + server.Addr(), MaxRetries: -1},
		"an instrumented host's":      {Client: host, InstrumentClient: true},
		"one that is not listened to": {Client: newClient(t, server)},
	} {
		o.Logger, o.Registerer = quiet().Logger, quiet().Registerer
		conn := connect(t, o)
		conn.Health().Start()
		awaitHealth(t, conn.Health(), HealthUp)
		changed := conn.Health().Changed()
		broken := &dies{}
		conn.Client().AddHook(broken) // below ours
		if err := conn.Client().Get(t.Context(), "k").Err(); !errors.Is(err, io.EOF) {
			t.Fatalf("%s: got %v", name, err)
		}
		heard := false
		select {
		case <-changed:
			heard = true
		default:
		}
		if want := o.Client == nil || o.InstrumentClient; heard != want {
			t.Errorf("%s: heard: %v", name, heard)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// dies fails every command as a broken connection does.
type dies struct{}

func (dies) DialHook(next redis.DialHook) redis.DialHook { return next }
func (dies) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.SetErr(io.EOF)
		return io.EOF
	}
}
func (dies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestHealth_ends_with_its_connection(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{URL: "embedded://" + t.Name()}, {Client: newClient(t, newServer(t)), InstrumentClient: true}} {
		o.Logger, o.Registerer = quiet().Logger, quiet().Registerer
		for range 50 {
			conn, err := Connect(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			go conn.Health().Start()
			conn.Health().Start()
			_ = conn.Client().Ping(t.Context()).Err()
			for range 2 {
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestConnect_refuses_names_that_are_no_label(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Configs", "a b", "redis://x", strings.Repeat("a", 33)} {
		o := quiet()
		o.URL, o.Name = "embedded://"+t.Name(), name
		if _, err := Connect(t.Context(), o); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), "Name is") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func BenchmarkHealth_hears_of_a_success(b *testing.B) {
	server := newServer(b)
	conn := connect(b, Options{URL: "redis://" + server.Addr()})
	conn.Health().Start()
	var o observers
	o.add(conn.Health().monitor)
	b.ReportAllocs()
	for b.Loop() {
		o.observe(nil, rediserr.OK)
	}
}

func TestConnect_finds_a_Redis_that_comes_with_the_next_command(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	conn := connect(t, Options{URL: "redis://" + server.Addr(), PoolSize: 2, MaxRetries: -1})
	server.Close()
	for range 10 { // go-redis would now look once a second
		if err := conn.Check(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	mini.Restart(t, server)
	if err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
