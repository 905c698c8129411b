package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

func startMini(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	server := mini.Start(t)
	return server
}

func TestLockURLs_come_from_the_environment(t *testing.T) {
	t.Parallel()
	configs, locks := startMini(t), []*miniredis.Miniredis{startMini(t), startMini(t), startMini(t)}
	for name, separator := range map[string]string{"commas": ",", "commas and spaces": " , ", "lines": "\n"} {
		o := testOptions(t)
		var urls []string
		for _, server := range locks {
			urls = append(urls, "redis://"+server.Addr())
		}
		o.Environment = func(name string) (string, bool) {
			value, ok := map[string]string{"REDIS_URL": "redis://" + configs.Addr(), "REDIS_LOCK_URLS": strings.Join(urls, separator)}[name]
			return value, ok
		}
		o.Redis = redisstate.Options{}
		o.LockQuarantine = -1
		plugin := newPlugin(t, o)
		manager, err := plugin.Locks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lease, err := manager.Acquire(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, server := range locks {
			for _, key := range server.Keys() {
				if strings.Contains(key, ":lock:{") {
					held++
				}
			}
		}
		if held < 2 || len(configs.Keys()) != 0 {
			t.Errorf("%s: %d lock masters have it, and the Redis of the configs %v", name, held, configs.Keys())
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestNewPlugin_refuses_lock_masters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		urls []string
		says string
	}{
		"two":      {[]string{"redis://a", "redis://b"}, "2 masters"},
		"no URL":   {[]string{"redis://a", "redis://b", "postgres://:C4n4ry@c"}, "master 3"},
		"no user":  {[]string{"redis://a", "redis://u@b", "redis://c"}, "master 2"},
		"embedded": {[]string{""}, "master 1"},
	} {
		o := testOptions(t)
		o.LockURLs = test.urls
		_, err := worker.NewPlugin(o)
		if !errors.Is(err, worker.ErrInvalidOptions) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "REDIS_LOCK_URLS") {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "C4n4ry") {
			t.Errorf("%s: a password is in %v", name, err)
		}
	}
	o := testOptions(t)
	o.LockQuarantine = time.Second
	if _, err := worker.NewPlugin(o); !errors.Is(err, worker.ErrInvalidOptions) || !strings.Contains(err.Error(), "LockQuarantine") {
		t.Errorf("a quarantine shorter than a lease: got %v", err)
	}
}

func TestStart_looks_at_lock_masters(t *testing.T) {
	t.Parallel()
	const id = "redis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrun_id:"
	start := func(t *testing.T, urls []string) (*instance, *worker.Plugin, *journal, error) {
		t.Helper()
		var log journal
		o := testOptions(t)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.LockURLs = urls
		o.Policies = map[string]interceptors.Policy{"charge": interceptors.Critical}
		plugin := newPlugin(t, o)
		i := newInstance(t, plugin, "a")
		return i, plugin, &log, i.start(t.Context(), started)
	}
	talker := func(t *testing.T, info string) string { return "redis://" + startTalker(t, "127.0.0.1:0", info) }
	t.Run("a minority may be away, and is named", func(t *testing.T) {
		t.Parallel()
		i, plugin, log, err := start(t, []string{talker(t, id+"1"), "redis://127.0.0.1:1", talker(t, id+"3")})
		if err != nil {
			t.Fatal(err)
		}
		defer i.stop(t.Context())
		if status, _ := get(t, plugin, "/readyz"); status != http.StatusOK || log.count("a lock master does not answer") != 1 {
			t.Errorf("/readyz is %d, and the log %s", status, log.text.String())
		}
	})
	t.Run("a majority may not", func(t *testing.T) {
		t.Parallel()
		i, plugin, log, err := start(t, []string{"redis://127.0.0.1:1", "redis://127.0.0.1:2", talker(t, id+"3")}) // nobody listens there
		if err != nil {
			t.Fatal(err)
		}
		defer i.stop(t.Context())
		if status, _ := get(t, plugin, "/readyz"); status == http.StatusOK || log.count("2 of 3 lock masters do not answer") == 0 {
			t.Errorf("/readyz is %d, and the log %s", status, log.text.String())
		}
	})
	t.Run("one server has one vote", func(t *testing.T) {
		t.Parallel()
		_, _, _, err := start(t, []string{talker(t, id+"1"), talker(t, id+"2"), talker(t, id+"1")})
		if !errors.Is(err, redisstate.ErrUnsuitable) || !strings.Contains(err.Error(), "lock masters 1 and 3 are the same server") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a replica is none", func(t *testing.T) {
		t.Parallel()
		_, _, _, err := start(t, []string{talker(t, strings.Replace(id, "master", "slave", 1)+"1")})
		if !errors.Is(err, redisstate.ErrUnsuitable) || !strings.Contains(err.Error(), "lock master 1") {
			t.Errorf("got %v", err)
		}
	})
	for name, test := range map[string]struct {
		masters int
		says    int
	}{"fewer than three are said to be so, once": {masters: 0, says: 1}, "three are not": {masters: 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			for n := range test.masters {
				urls = append(urls, talker(t, id+string(rune('a'+n))))
			}
			i, _, log, err := start(t, urls)
			if err != nil {
				t.Fatal(err)
			}
			defer i.stop(t.Context())
			if n := log.count("leases are on one Redis master"); n != test.says {
				t.Errorf("it is said %d times: %s", n, log.text.String())
			}
		})
	}
}

func TestPlugin_Redis_is_what_a_cache_needs(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.TemporalNamespace = "orders"
	plugin := newPlugin(t, o)
	client, options, err := plugin.Redis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loads := 0
	states, err := redisstate.NewCache(client, redisstate.CacheOptions[int]{Kind: "workflow", Load: func(context.Context, string) (int, error) {
		loads++
		return 7, nil
	}}, options)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if state, err := states.Get(t.Context(), "a"); state != 7 || err != nil {
			t.Fatalf("it gives %d, %v", state, err)
		}
	}
	names, err := client.Keys(t.Context(), "temporal-redis:orders:*").Result()
	if loads != 1 || err != nil || len(names) == 0 {
		t.Errorf("%d loads; the keys are %v, %v", loads, names, err)
	}
}
