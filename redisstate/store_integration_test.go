//go:build integration

package redisstate_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite/contract"
)

// dial connects as a host does, and closes with the test.
func dial(tb testing.TB, o redisstate.Options) redis.UniversalClient {
	tb.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	conn, err := redisstate.Connect(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := conn.Check(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return conn.Client()
}

// hosts gives each test below t the clients of three hosts, one after the other: what
// a connection costs the race detector, some hundred test cases need not pay each.
func hosts(t *testing.T, o redisstate.Options) func() func(testing.TB) redis.UniversalClient {
	t.Helper()
	clients := []redis.UniversalClient{dial(t, o), dial(t, o), dial(t, o)}
	return func() func(testing.TB) redis.UniversalClient {
		var next atomic.Uint32
		return func(testing.TB) redis.UniversalClient { return clients[int(next.Add(1))%len(clients)] }
	}
}

// workerRules is all that a Redis user needs for configs and metadata.
var workerRules = []string{
	"on", ">worker-secret", "resetkeys", "~contract:*:config:*", "~contract:*:index:*", "~contract:*:metadata:*", "resetchannels", "-@all",
	"+ping", "+get", "+getrange", "+set", "+pexpire", "+pttl", "+exists", "+del", "+scan",
	"+zadd", "+zrem", "+zscan", "+zrangebyscore", "+zremrangebyscore",
	"+multi", "+exec", "+watch", "+unwatch",
	// what the suite itself does to age, damage and flush
	"+rpush",
}

// clusterRules come on top on a Cluster: the client asks which node has which
// slot, and what commands do.
var clusterRules = append(slices.Clone(workerRules), "+cluster|slots", "+command")

// sentinelRules are what docs/operations.md tells to let a user of the sentinels do.
var sentinelRules = []string{
	"on", ">watcher-secret", "resetchannels", "&+switch-master", "&+replica-reconf-done", "-@all",
	"+sentinel|get-master-addr-by-name", "+sentinel|sentinels", "+subscribe", "+ping",
}

// grantTo makes an ACL user of a running server.
func grantTo(t *testing.T, server *redistest.Server, user string, rules ...string) {
	t.Helper()
	command := []any{"acl", "setuser", user}
	for _, rule := range rules {
		command = append(command, rule)
	}
	if err := server.ControlClient(t).Do(t.Context(), command...).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestConfigStore_on_every_backend runs one suite on all that we support. It
// says how many cases each backend kept, and all have to be the same.
func TestConfigStore_on_every_backend(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, redistest.WithUnixSocket(), redistest.WithPassword("p/@:w"), redistest.WithUser("worker", workerRules...))
	encrypted := redistest.Start(t, redistest.WithTLS())
	mutual := redistest.Start(t, redistest.WithMutualTLS(), redistest.WithPassword("secret"))
	watched := redistest.StartSentinel(t, redistest.WithPassword("p/@:w"), redistest.WithSentinelPassword("watch"), redistest.WithMutualTLS())
	shards := redistest.StartCluster(t, redistest.WithPassword("p/@:w"), redistest.WithUser("worker", clusterRules...))
	sealed := redistest.StartCluster(t, redistest.WithTLS())
	trusted := func(c *redistest.Certificates) redisstate.TLSOptions { return redisstate.TLSOptions{CAFile: c.CAFile} }
	ours := trusted(mutual.Certificates())
	ours.CertFile, ours.KeyFile = mutual.Certificates().ClientCertFile, mutual.Certificates().ClientKeyFile
	for _, sentinel := range watched.Sentinels() {
		grantTo(t, sentinel, "watcher", sentinelRules...)
	}
	theirs := trusted(watched.Certificates())
	theirs.CertFile, theirs.KeyFile = watched.Certificates().ClientCertFile, watched.Certificates().ClientKeyFile

	var mu sync.Mutex
	tallies := make(map[string]*contract.Tally)
	const backends = 9
	t.Cleanup(func() { // all cases are over
		if len(tallies) != backends {
			t.Errorf("%d of %d backends ran", len(tallies), backends)
			return
		}
		for name, tally := range tallies {
			if tally.Kept() != tally.Cases() || tally.Cases() != tallies["TCP"].Cases() || tally.Cases() == 0 {
				t.Errorf("%s kept %d of %d cases, TCP %d", name, tally.Kept(), tally.Cases(), tallies["TCP"].Kept())
			}
		}
	})
	for name, options := range map[string]redisstate.Options{
		"embedded":                      {ReadTimeout: time.Minute}, // its transactions are slow while the machine is busy
		"TCP":                           {URL: plain.URL()},
		"unix socket":                   {URL: plain.UnixURL()},
		"TLS":                           {URL: encrypted.URL(), TLS: trusted(encrypted.Certificates())},
		"mutual TLS":                    {URL: mutual.URL(), TLS: ours},
		"least-privilege user":          {URL: plain.URLFor("worker", "worker-secret")},
		"Sentinel, mutual TLS":          {URL: watched.URL(), SentinelUsername: "watcher", SentinelPassword: "watcher-secret", TLS: theirs},
		"Cluster, TLS":                  {URL: sealed.URL(), TLS: trusted(sealed.Certificates())},
		"Cluster, least-privilege user": {URL: shards.URLFor("worker", "worker-secret")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(tb testing.TB) contract.ConfigStoreBackend { // an embedded one for each case, as its clock walks over all keys
				options := options
				options.URL = "embedded://" + rand.Text()
				return contract.ConfigStoreOnRedis(tb, func(tb testing.TB) redis.UniversalClient { return dial(tb, options) })
			}
			if name != "embedded" {
				connect := hosts(t, options)
				open = func(tb testing.TB) contract.ConfigStoreBackend { return contract.ConfigStoreOnRedis(tb, connect()) }
			}
			tally := contract.ConfigStore(t, open)
			mu.Lock()
			tallies[name] = tally
			mu.Unlock()
		})
	}
}

// docs/operations.md names these two commands for those who need them.
func TestLeast_privilege_users_need_more_for_a_database_and_for_a_name(t *testing.T) {
	t.Parallel()
	more := append(slices.Clone(workerRules), "+select", "+client|setname")
	server := redistest.Start(t, redistest.WithUser("worker", workerRules...), redistest.WithUser("more", more...))
	for suffix, command := range map[string]string{"/1": "'select'", "/0?client_name=saver": "'client|setname'"} {
		for user, denied := range map[string]bool{"worker": true, "more": false} {
			conn, err := redisstate.Connect(t.Context(), redisstate.Options{
				URL: strings.TrimSuffix(server.URLFor(user, "worker-secret"), "/0") + suffix, Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			err = conn.Check(t.Context())
			if errors.Is(err, redisstate.ErrDenied) != denied || (err == nil) == denied || (denied && !strings.Contains(err.Error(), command)) {
				t.Errorf("%s with %s: got %v; denied should be %v", user, suffix, err, denied)
			}
		}
	}
}

func TestCheck_tells_why_a_TLS_server_is_out_of_reach(t *testing.T) {
	t.Parallel()
	encrypted, mutual, plain := redistest.Start(t, redistest.WithTLS()), redistest.Start(t, redistest.WithMutualTLS()), redistest.Start(t)
	for name, test := range map[string]struct {
		o    redisstate.Options
		want error
	}{
		"an authority that is not ours": {redisstate.Options{URL: encrypted.URL()}, redisstate.ErrDenied},
		"another name": {redisstate.Options{URL: encrypted.URL(), TLS: redisstate.TLSOptions{
			CAFile: encrypted.Certificates().CAFile, ServerName: "redis.example.com",
		}}, redisstate.ErrDenied},
		"no client certificate": {redisstate.Options{URL: mutual.URL(), TLS: redisstate.TLSOptions{CAFile: mutual.Certificates().CAFile}}, redisstate.ErrDenied},
		// A plain server waits for the end of what it takes for a command.
		"TLS to a plain server": {redisstate.Options{URL: "rediss://" + plain.Addr(), DialTimeout: time.Second}, redisstate.ErrUnavailable},
		"plain to a TLS server": {redisstate.Options{URL: "redis://" + encrypted.Addr()}, redisstate.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.o.Registerer = prometheus.NewRegistry()
			conn, err := redisstate.Connect(t.Context(), test.o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.Check(t.Context()); !errors.Is(err, test.want) {
				t.Fatalf("got %v; want %v", err, test.want)
			}
		})
	}
}

func open(t *testing.T, client redis.UniversalClient) *redisstate.Store {
	t.Helper()
	store, err := redisstate.NewStore(client, redisstate.Options{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestSet_tells_that_the_user_may_not_write(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithUser("reader", "on", ">secret", "~*", "+@read", "+ping", "+multi", "+exec"))
	store := open(t, dial(t, redisstate.Options{URL: server.URLFor("reader", "secret")}))
	_, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1})
	if !errors.Is(err, redisstate.ErrDenied) || errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrDenied", err)
	}
	if _, err := store.Get(t.Context(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrNotFound) {
		t.Fatalf("got %v; want ErrNotFound", err)
	}
}

func TestSet_tells_that_Redis_is_full_and_writes_nothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, redisstate.Options{URL: server.URL()})
	store := open(t, client)
	kept, err := store.Set(t.Context(), redisstate.Entry{ID: "kept", Workflow: "wf", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	control := server.ControlClient(t)
	if err := control.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1}, redisstate.Entry{ID: "kept", Workflow: "wf", Value: 2})
	if !errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	if err := control.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	reader := open(t, client)
	if config, err := reader.Get(t.Context(), kept[0].Key()); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("kept gave %s, %v", config.JSON(), err)
	}
	for key, err := range reader.Scan(t.Context(), redisstate.Scope{}) {
		if err != nil || key.ID != "kept" {
			t.Fatalf("listed %v, %v", key, err)
		}
	}
}

func TestStore_goes_on_after_the_server_was_killed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPersistence())
	client := dial(t, redisstate.Options{URL: server.URL()})
	store := open(t, client)
	refs, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: 1})
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := store.Get(t.Context(), redisstate.ID("a")); !errors.Is(err, redisstate.ErrUnavailable) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	if config, err := store.Get(t.Context(), refs[0].Key()); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("a ref that was read here gave %s, %v without Redis", config.JSON(), err)
	}
	server.MustRestart(t)
	if config, err := store.Get(t.Context(), redisstate.ID("a")); err != nil || string(config.JSON()) != "1" {
		t.Fatalf("after the restart: %s, %v", config.JSON(), err)
	}
}
