//go:build integration

package locking_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

func TestManager_tells_outages_from_refusals(t *testing.T) {
	t.Parallel()
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		server.Kill()
		_, err := m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
			t.Fatal(err)
		}
	})
	t.Run("a hanging server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		_, err := m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		release(t, acquire(t, m))
	})
	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithPassword("right"))
		options := server.Options()
		options.Password = "canary-wrong"
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		m, err := locking.New(client, quiet(brief))
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, m)
		_, err = m.Acquire(t.Context(), "r")
		if !errors.Is(err, locking.ErrDenied) || strings.Contains(err.Error(), "canary") {
			t.Fatal(err)
		}
	})
	for name, rule := range map[string]string{"no scripts": "-@scripting", "no lock keys": "~other:*"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := []string{"on", ">pw", "+@all", rule}
			if !strings.HasPrefix(rule, "~") {
				rules = append(rules, "~*")
			}
			server := redistest.Start(t, redistest.WithUser("locker", rules...))
			options := server.Options()
			options.Username, options.Password = "locker", "pw"
			client := redis.NewClient(options)
			t.Cleanup(func() { _ = client.Close() })
			m, err := locking.New(client, quiet(brief))
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, m)
			_, err = m.Acquire(t.Context(), "r")
			if !errors.Is(err, locking.ErrDenied) {
				t.Fatal(err)
			}
		})
	}
	t.Run("no memory", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		m := open(t, server, brief)
		lease := acquire(t, m)
		control := server.ControlClient(t)
		if err := control.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
			t.Fatal(err)
		}
		_, err := m.Acquire(t.Context(), "other")
		if !errors.Is(err, locking.ErrUnavailable) {
			t.Fatal(err)
		}
		release(t, lease) // still possible
		if err := control.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
		release(t, acquire(t, m))
	})
}

func TestManager_leaves_no_lock_and_no_key_without_a_TTL(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	control := server.ControlClient(t)
	m := open(t, server, locking.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				lease, err := m.Acquire(t.Context(), fmt.Sprint(i, j))
				if err == nil {
					err = lease.Release(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	names, err := control.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.Contains(name, ":lock:") {
			t.Errorf("%s is still held", name)
		}
		if ttl := control.TTL(t.Context(), name).Val(); ttl == -1 {
			t.Errorf("%s has no TTL", name)
		}
	}
}
