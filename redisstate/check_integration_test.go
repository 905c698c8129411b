//go:build integration

package redisstate_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// lines is a log that a test reads.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// link connects without asking whether Redis answers, and gives the log.
func link(t *testing.T, o redisstate.Options) (*redisstate.Conn, *lines) {
	t.Helper()
	var log lines
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil))
	o.SlowThreshold = -1
	conn, err := redisstate.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, &log
}

func topics(report redisstate.Report) string {
	var names []string
	for _, f := range report.Findings {
		names = append(names, string(f.Topic))
	}
	return strings.Join(names, " ")
}

func TestInspect_tells_what_an_operator_should_know(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts   []redistest.Option
		user   string
		topics string
		says   []string
	}{
		"a Redis as it should be": {[]redistest.Option{redistest.WithPersistence(), redistest.WithPassword("C4n4ry")}, "", "", nil},
		"one that evicts all keys": {
			[]redistest.Option{redistest.WithPersistence(), redistest.WithConfig("maxmemory", "100mb"), redistest.WithConfig("maxmemory-policy", "allkeys-lru")},
			"", "eviction", []string{"maxmemory-policy is allkeys-lru", "leases", "noeviction"},
		},
		"one that evicts what expires": {
			[]redistest.Option{redistest.WithPersistence(), redistest.WithConfig("maxmemory-policy", "volatile-ttl")},
			"", "eviction", []string{"maxmemory-policy is volatile-ttl", "volatile policies too", "no maxmemory is set"},
		},
		"one that forgets": {nil, "", "persistence", []string{"append-only", "appendonly yes"}},
		"one that does not tell": {
			[]redistest.Option{redistest.WithUser("app", "on", ">C4n4ry", "~*", "+@all", "-@dangerous")},
			"app", "unknown", []string{"may not call INFO", "+info"},
		},
		"one that tells nothing": {
			[]redistest.Option{redistest.WithUser("app", "on", ">C4n4ry", "~*", "-@all", "+ping", "+get")},
			"app", "unknown", []string{"may not call INFO", "+info"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.opts...)
			url := server.URL()
			if test.user != "" {
				url = server.URLFor(test.user, "C4n4ry")
			}
			conn, log := link(t, redisstate.Options{URL: url})
			report, err := conn.Inspect(t.Context())
			if err != nil || topics(report) != test.topics {
				t.Fatalf("found %q, %v; want %q", topics(report), err, test.topics)
			}
			if node := report.Nodes[0]; test.user == "" && (!strings.HasPrefix(node.Version, "7.") && !strings.HasPrefix(node.Version, "8.") || node.Role != "master") {
				t.Errorf("the server is %+v", node)
			}
			if _, err := conn.Inspect(t.Context()); err != nil { // which logs nothing again
				t.Fatal(err)
			}
			text := log.String()
			for _, says := range append(test.says, "op=inspect", "reason=") {
				if test.topics != "" && strings.Count(text, says) != 1 {
					t.Errorf("the log has %q %d times: %s", says, strings.Count(text, says), text)
				}
			}
			wantWarnings := 1
			if test.topics == "" || test.topics == "unknown" {
				wantWarnings = 0
			}
			if got := strings.Count(text, "level=WARN"); got != wantWarnings || strings.Contains(text, "C4n4ry") {
				t.Errorf("%d warnings, want %d, and no secret: %s", got, wantWarnings, text)
			}
		})
	}
}

func TestInspect_refuses_what_cannot_work_and_names_the_remedy(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t)
	group := redistest.StartSentinel(t, redistest.WithPassword("C4n4ry"))
	shards := redistest.StartCluster(t)
	primary, err := group.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var replica *redistest.Server
	for _, node := range group.Nodes() {
		if node != primary {
			replica = node
		}
	}
	for name, test := range map[string]struct {
		url  string
		want error
		says string
	}{
		"a replica":                               {replica.URL(), redisstate.ErrUnsuitable, "redis+sentinel://"},
		"a sentinel":                              {group.Sentinels()[0].URL(), redisstate.ErrUnsuitable, "redis+sentinel://host:port/master"},
		"a node of a cluster":                     {shards.Nodes()[0].URL(), redisstate.ErrUnsuitable, "redis+cluster://"},
		"a cluster that is none":                  {"redis+cluster://" + plain.Addr(), redisstate.ErrUnsuitable, "redis://"},
		"sentinels that are none":                 {"redis+sentinel://" + plain.Addr() + "/redistest", redisstate.ErrUnsuitable, "no sentinels"},
		"a master that the sentinels do not know": {otherMaster(group.URL()), redisstate.ErrUnavailable, "REDIS_SENTINEL_MASTER"},
	} {
		conn, _ := link(t, redisstate.Options{URL: test.url})
		_, err := conn.Inspect(t.Context())
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "C4n4ry") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v; want %v that says %s in one line", name, err, test.want, test.says)
		}
	}
	t.Run("and looks at every server that takes writes", func(t *testing.T) {
		for name, url := range map[string]string{"sentinel": group.URL(), "cluster": shards.URL()} {
			conn, log := link(t, redisstate.Options{URL: url})
			report, err := conn.Inspect(t.Context())
			if err != nil || report.Deployment != name {
				t.Fatalf("%s: %+v, %v", name, report, err)
			}
			if want := map[string]int{"sentinel": 1, "cluster": 3}[name]; len(report.Nodes) != want || strings.Count(log.String(), "appendonly yes") != want {
				t.Errorf("%s: %d nodes; want %d, each told: %s", name, len(report.Nodes), want, log)
			}
			for _, node := range report.Nodes {
				if node.Role != "master" || (name == "cluster" && node.ClusterState != "ok") {
					t.Errorf("%s: %+v", name, node)
				}
			}
		}
	})
	t.Run("and takes an unknown master for an outage, not for a missing config", func(t *testing.T) { checkUnknownMaster(t, group) })
	t.Run("and takes a cluster that is down for one", func(t *testing.T) { checkClusterDown(t, shards) })
}

func otherMaster(url string) string { return strings.Replace(url, "/redistest/", "/other/", 1) }

// A client over sentinels that do not know the master gets redis.Nil from them,
// which must not be taken for a key that is not there.
func checkUnknownMaster(t *testing.T, group *redistest.Sentinel) {
	hosts := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "other", SentinelAddrs: []string{group.Sentinels()[0].Addr()}, MaxRetries: -1, DialerRetries: 1,
	})
	t.Cleanup(func() { _ = hosts.Close() })
	ours, _ := link(t, redisstate.Options{URL: otherMaster(group.URL()), MaxRetries: -1})
	for name, client := range map[string]redis.UniversalClient{"our client": ours.Client(), "the host's": hosts} {
		store := open(t, client)
		want := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, redisstate.ErrUnavailable) {
				t.Errorf("%s: %s gave %v; want ErrUnavailable", name, what, err)
			}
		}
		_, err := store.Get(t.Context(), redisstate.ID("a"))
		want("get", err)
		_, err = store.GetMany(t.Context(), redisstate.ID("a"), redisstate.ID("b"))
		want("get many", err)
		_, err = store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1})
		want("set", err)
		_, err = store.Delete(t.Context(), redisstate.ID("a"))
		want("delete", err)
		for _, err := range store.Scan(t.Context(), redisstate.Scope{Workflow: "wf"}) {
			want("scan", err)
		}
	}
}

func checkClusterDown(t *testing.T, shards *redistest.Cluster) {
	conn, _ := link(t, redisstate.Options{URL: shards.URL(), ReadTimeout: time.Second})
	if _, err := conn.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	master, replica, err := shards.Owner(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	replica.Kill()
	master.Kill()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := conn.Inspect(t.Context())
		if err != nil && !errors.Is(err, redisstate.ErrUnavailable) {
			t.Fatalf("got %v; want ErrUnavailable", err)
		}
		if err != nil && strings.Contains(err.Error(), "cluster's state is fail") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("last: %v", err)
		}
	}
}

// What a server says that was asked in the wrong way.
func TestCheck_tells_what_a_TLS_server_wants(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithTLS())
	for name, test := range map[string]struct {
		o    redisstate.Options
		want string
	}{
		"without TLS": {redisstate.Options{URL: "redis://" + server.Addr()}, "does this port want TLS? then use rediss://"},
		"another host": {
			redisstate.Options{URL: server.URL(), TLS: redisstate.TLSOptions{CAFile: server.Certificates().CAFile, ServerName: "elsewhere.example"}},
			"REDIS_TLS_SERVER_NAME or Options.TLS.ServerName",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.o.Registerer, test.o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			conn, err := redisstate.Connect(t.Context(), test.o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.Check(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
		})
	}
}
