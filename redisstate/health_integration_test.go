//go:build integration

package redisstate_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

const (
	// recovery bounds the time from Redis answering again to the word that it is
	// up; measured, it is a quarter of a second.
	recovery = time.Second
	// discovery bounds the time from a fault to the word that Redis is down.
	discovery = 6 * time.Second
)

// watch is a connection whose health is watched, and that is up.
func watch(t *testing.T, url string, change ...func(*redisstate.Options)) (*redisstate.Conn, *journal) {
	t.Helper()
	log := &journal{}
	o := redisstate.Options{URL: url, Name: "configs", Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(log, nil))}
	for _, do := range change {
		do(&o)
	}
	conn, err := redisstate.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	conn.Health().Start()
	await(t, conn, redisstate.HealthUp, "", discovery)
	return conn, log
}

// await waits for a state, and for a reason if one is given, and tells how long.
func await(t *testing.T, conn *redisstate.Conn, want redisstate.HealthState, reason string, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	again := time.NewTicker(5 * time.Millisecond) // a reason changes without a state
	defer again.Stop()
	for {
		s := conn.Health().Status()
		if s.State == want && (reason == "" || s.Reason == reason) {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("after %v it is %v (%s), want %v (%s)", within, s.State, s.Reason, want, reason)
		}
		<-again.C
	}
}

// awaitAvailable waits until nothing pauses any more: up, or degraded.
func awaitAvailable(t *testing.T, conn *redisstate.Conn, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for !conn.Health().Available() {
		if time.Since(began) > within {
			t.Fatalf("after %v it is %+v", within, conn.Health().Status())
		}
		<-time.After(time.Millisecond)
	}
	return time.Since(began)
}

// traffic uses the connection until the function that it returns is called.
func traffic(conn *redisstate.Conn, callers int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			pause := time.NewTicker(2 * time.Millisecond)
			defer pause.Stop()
			for ctx.Err() == nil {
				_ = conn.Client().Get(ctx, "temporal-redis:k").Err()
				<-pause.C
			}
		})
	}
	for conn.Client().PoolStats().TotalConns < uint32(min(callers, redisstate.DefaultPoolSize)) { // all that there may be
		<-time.After(time.Millisecond)
	}
	return func() { cancel(); all.Wait() }
}

func TestHealth_finds_a_server_that_is_gone_and_that_is_back(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away      func(*redistest.Server, *faultproxy.Proxy) error
		back      func(*testing.T, *redistest.Server, *faultproxy.Proxy) error
		reason    string
		swallowed time.Duration // for which a probe waits whose answer is lost
	}{
		"kill -9 and restart": {
			away:   func(s *redistest.Server, _ *faultproxy.Proxy) error { s.Kill(); return nil },
			back:   func(t *testing.T, s *redistest.Server, _ *faultproxy.Proxy) error { return s.Restart(t.Context()) },
			reason: "connection",
		},
		"SIGSTOP and SIGCONT": {
			away:   func(s *redistest.Server, _ *faultproxy.Proxy) error { return s.Pause() },
			back:   func(_ *testing.T, s *redistest.Server, _ *faultproxy.Proxy) error { return s.Resume() },
			reason: "timeout",
		},
		"a black hole": {
			away:   func(_ *redistest.Server, p *faultproxy.Proxy) error { p.BlackHole(faultproxy.Both); return nil },
			back:   func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) error { return p.Heal() },
			reason: "timeout", swallowed: time.Second,
		},
		"refused and reset": {
			away:   func(_ *redistest.Server, p *faultproxy.Proxy) error { p.Refuse(); p.Reset(); return nil },
			back:   func(_ *testing.T, _ *redistest.Server, p *faultproxy.Proxy) error { return p.Heal() },
			reason: "connection",
		},
	} {
		for kind, callers := range map[string]int{"idle": 0, "with a pool that is full": 100} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				proxy := faultproxy.Start(t, server.Addr())
				conn, log := watch(t, "redis://"+proxy.Addr())
				stop := traffic(conn, callers)
				defer stop()
				if err := test.away(server, proxy); err != nil {
					t.Fatal(err)
				}
				found := await(t, conn, redisstate.HealthDown, test.reason, discovery)
				if err := test.back(t, server, proxy); err != nil {
					t.Fatal(err)
				}
				up := await(t, conn, redisstate.HealthUp, "", recovery+test.swallowed)
				began := time.Now()
				for time.Since(began) < recovery { // who waited goes on at once
					if err := conn.Client().Get(t.Context(), "temporal-redis:k").Err(); errors.Is(err, redis.Nil) {
						break
					}
				}
				t.Logf("down after %v, up after %v, a call succeeds after another %v", found, up, time.Since(began))
				stop()
				logged(log, "Redis is back")
				if text := log.String(); strings.Count(text, "op=health") != 2 || strings.Contains(text, "level=ERROR") {
					t.Errorf("the log is %s", text)
				}
			})
		}
	}
}

func TestHealth_notices_what_refuses_to_write(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(context.Context, *redis.Client) error {
		return func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, name, value).Err() }
	}
	for reason, test := range map[string]struct {
		begin, end func(context.Context, *redis.Client) error
		options    []redistest.Option
	}{
		"oom":        {begin: set("maxmemory", "1"), end: set("maxmemory", "0")},
		"noreplicas": {begin: set("min-replicas-to-write", "1"), end: set("min-replicas-to-write", "0")},
		"readonly": {
			begin: func(ctx context.Context, c *redis.Client) error {
				return c.Do(ctx, "replicaof", "127.0.0.1", "1").Err()
			},
			end: func(ctx context.Context, c *redis.Client) error { return c.Do(ctx, "replicaof", "no", "one").Err() },
		},
		"misconf": {
			options: []redistest.Option{redistest.WithConfig("enable-protected-configs", "yes")},
			begin: func(ctx context.Context, c *redis.Client) error {
				for _, setting := range [][2]string{{"dir", "/proc/self"}, {"save", "100000 1"}, {"stop-writes-on-bgsave-error", "yes"}} {
					if err := c.ConfigSet(ctx, setting[0], setting[1]).Err(); err != nil {
						return err
					}
				}
				return c.BgSave(ctx).Err()
			},
			end: set("save", ""),
		},
		"busy": {
			options: []redistest.Option{redistest.WithArgs("--lua-time-limit", "50")},
			begin: func(ctx context.Context, c *redis.Client) error {
				go func() { _ = c.Eval(ctx, "while true do end", nil).Err() }()
				return nil
			},
			end: func(ctx context.Context, c *redis.Client) error { return c.ScriptKill(ctx).Err() },
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.options...)
			conn, _ := watch(t, server.URL())
			control := server.ControlClient(t)
			if err := test.begin(t.Context(), control); err != nil {
				t.Fatal(err)
			}
			if reason != "busy" && reason != "misconf" {
				// Who only asks whether Redis lives does not see it.
				if err := conn.Check(t.Context()); err != nil {
					t.Errorf("PING gave %v", err)
				}
			}
			found := await(t, conn, redisstate.HealthDown, reason, discovery)
			if err := test.end(t.Context(), control); err != nil {
				t.Fatal(err)
			}
			t.Logf("down after %v, up after %v", found, await(t, conn, redisstate.HealthUp, "", recovery))
		})
	}
}

func TestHealth_waits_for_a_server_that_loads_its_data(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("loading-process-events-interval-bytes", "1024"))
	control := server.ControlClient(t)
	if err := control.Do(t.Context(), "debug", "populate", 2000, "key", 100).Err(); err != nil {
		t.Fatal(err)
	}
	for _, setting := range [][2]string{{"key-load-delay", "500"}} { // us: a second for all
		if err := control.ConfigSet(t.Context(), setting[0], setting[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, rewrite := range []func() error{control.ConfigRewrite(t.Context()).Err, control.Save(t.Context()).Err} {
		if err := rewrite(); err != nil {
			t.Fatal(err)
		}
	}
	conn, _ := watch(t, server.URL())
	server.Kill()
	await(t, conn, redisstate.HealthDown, "connection", discovery)
	server.MustRestart(t) // it answers INFO
	await(t, conn, redisstate.HealthDown, "loading", discovery)
	t.Logf("up after another %v", await(t, conn, redisstate.HealthUp, "", discovery))
}

func TestHealth_tells_a_user_who_was_shut_out(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("worker", "on", ">C4n4ry", "~temporal-redis:*", "+@all", "-@admin", "-@dangerous"))
	conn, log := watch(t, server.URLFor("worker", "C4n4ry"))
	control := server.ControlClient(t)
	for _, rules := range [][]any{{"resetpass", ">C4n4ry2"}, {"resetkeys"}, {"off"}} {
		before := strings.Count(log.String(), "level=ERROR")
		if err := control.Do(t.Context(), append([]any{"acl", "setuser", "worker"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
		// Who is in stays in until the connection ends.
		if err := control.Do(t.Context(), "client", "kill", "user", "worker").Err(); err != nil {
			t.Fatal(err)
		}
		await(t, conn, redisstate.HealthDown, "denied", discovery)
		if s := conn.Health().Status(); !s.Denied {
			t.Errorf("%v: it is %+v", rules, s)
		}
		if err := control.Do(t.Context(), "acl", "setuser", "worker", "on", "resetpass", ">C4n4ry", "~temporal-redis:*").Err(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%v: up after %v", rules, await(t, conn, redisstate.HealthUp, "", recovery+500*time.Millisecond)) // so seldom it asks who is refused
		if got := strings.Count(log.String(), "level=ERROR") - before; got != 1 {
			t.Errorf("%v: %d errors in the log %s", rules, got, log)
		}
	}
	if strings.Contains(log.String(), "C4n4ry") {
		t.Errorf("the password is in the log: %s", log)
	}
}

func TestHealth_leaves_a_permission_that_one_command_lacks_alone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("worker", "on", ">pw", "~temporal-redis:*", "+@all", "-lrange"))
	conn, log := watch(t, server.URLFor("worker", "pw"))
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if err := conn.Client().LRange(t.Context(), "temporal-redis:x", 0, 1).Err(); err == nil {
			t.Fatal("it was allowed")
		}
		if s := conn.Health().Status(); s.State == redisstate.HealthDown {
			t.Fatalf("it is %+v", s)
		}
	}
	if text := log.String(); strings.Contains(text, "op=health") {
		t.Errorf("the log is %s", text)
	}
}

func TestHealth_is_served_by_the_documented_permissions(t *testing.T) {
	t.Parallel()
	// From docs/operations.md.
	for name, rules := range map[string]string{
		"a worker":             "resetkeys ~temporal-redis:* resetchannels &workflow:* &temporal-redis:* +@all -@admin -@dangerous +info +client|unblock",
		"a lock master's user": "resetkeys ~temporal-redis:* resetchannels -@all +ping +info +time +evalsha +eval +set +get +getrange +del +exists +pexpire +pttl +expire +copy +zadd +zincrby +zscore +bzpopmin +client|id +client|unblock",
		"a saver":              "resetkeys ~temporal-redis:* resetchannels -@all +ping +get +getrange +set +pexpire +pttl +exists +del +zadd +zrem +zscan +zrangebyscore +zremrangebyscore +scan +multi +exec +watch +unwatch",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.WithUser("u", append([]string{"on", ">pw"}, strings.Fields(rules)...)...))
			conn, log := watch(t, server.URLFor("u", "pw"), func(o *redisstate.Options) { o.Namespace = "temporal-redis:default" })
			if n := server.ControlClient(t).Exists(t.Context(), "temporal-redis:default:@health:{0}").Val(); n != 1 {
				t.Error("it wrote nothing")
			}
			if text := log.String(); text != "" {
				t.Errorf("the log is %s", text)
			}
			_ = conn
		})
	}
}

func TestHealth_follows_a_fail_over_of_sentinels(t *testing.T) {
	t.Parallel()
	deployment := redistest.StartSentinel(t)
	conn, log := watch(t, deployment.URL())
	stop := traffic(conn, 4)
	defer stop()
	if _, err := deployment.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, conn, redisstate.HealthUp, "", discovery)
	t.Logf("a planned one: %s", log)
	if _, _, err := deployment.KillPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Until every sentinel has heard, one may still name the primary that is gone.
	t.Logf("up %v after the promotion: %s", await(t, conn, redisstate.HealthUp, "", discovery), log)
	logged(log, "Redis is back")
	if text := log.String(); !strings.Contains(text, "Redis is away") || !strings.Contains(text, "Redis is back") {
		t.Errorf("the log is %s", text)
	}
}

// logged waits for a line, which comes behind the state, for a while.
func logged(log *journal, line string) {
	for deadline := time.Now().Add(discovery); !strings.Contains(log.String(), line) && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
}

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
