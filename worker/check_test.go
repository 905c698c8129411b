package worker_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/compozy/temporal-redis/redisstate"
)

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), part)
}

// startTalker is a server that answers PING, and INFO with what it is told.
func startTalker(t *testing.T, addr, info string) string {
	t.Helper()
	s, err := server.NewServer(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for name, answer := range map[string]string{"PING": "PONG", "INFO": info} {
		if err := s.Register(name, func(c *server.Peer, _ string, _ []string) { c.WriteBulk(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	return s.Addr().String()
}

const evicting = "redis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:allkeys-lru\r\n"

func TestStartLooksAtRedisClosely(t *testing.T) {
	t.Parallel()
	t.Run("a risk is logged once, with the reason", func(t *testing.T) {
		t.Parallel()
		var log journal
		o := testOptions(t)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Redis = redisstate.Options{URL: "redis://" + startTalker(t, "127.0.0.1:0", evicting)}
		plugin := newPlugin(t, o)
		one, other := newInstance(t, plugin, "a"), newInstance(t, plugin, "b")
		for _, i := range []*instance{one, other} {
			if err := i.start(t.Context(), started); err != nil {
				t.Fatal(err)
			}
			defer i.stop(t.Context())
		}
		if status, _ := get(t, plugin, "/readyz"); status != http.StatusOK {
			t.Errorf("/readyz is %d", status)
		}
		if log.count("maxmemory-policy is allkeys-lru") != 1 || log.count("noeviction") != 1 {
			t.Errorf("the log is %s", log.text.String())
		}
	})

	t.Run("a replica refuses the start", func(t *testing.T) {
		t.Parallel()
		o := testOptions(t)
		o.Redis = redisstate.Options{URL: "redis://" + startTalker(t, "127.0.0.1:0", "redis_version:7.0.15\r\nrole:slave\r\n")}
		i := newInstance(t, newPlugin(t, o), "a")
		if err := i.start(t.Context(), started); !errors.Is(err, redisstate.ErrUnsuitable) {
			t.Errorf("start gave %v", err)
		}
	})

	t.Run("a Redis that was away is looked at when it comes", func(t *testing.T) {
		t.Parallel()
		var log journal
		address := closedPort(t)
		o := testOptions(t)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Redis = redisstate.Options{URL: "redis://" + address, MaxRetries: -1}
		plugin := newPlugin(t, o)
		i := newInstance(t, plugin, "a")
		if err := i.start(t.Context(), started); err != nil {
			t.Fatal(err)
		}
		defer i.stop(t.Context())
		startTalker(t, address, evicting)
		late := time.After(30 * time.Second)
		for ready := 0; ready < 2; { // once the monitors have found out
			if status, _ := get(t, plugin, "/readyz"); status == http.StatusOK {
				ready++
				continue
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-late:
				t.Fatal("/readyz stays red")
			}
		}
		if log.count("maxmemory-policy is allkeys-lru") != 1 {
			t.Errorf("the log is %s", log.text.String())
		}
	})
}
