//go:build integration

package redistest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

func TestServerAnswersHoweverItIsConfigured(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opts []redistest.Option
		url  func(*redistest.Server) string
	}{
		"plain":              {nil, (*redistest.Server).URL},
		"with a password":    {[]redistest.Option{redistest.WithPassword(`a "b\c @:/`)}, (*redistest.Server).URL},
		"over a Unix socket": {[]redistest.Option{redistest.WithUnixSocket(), redistest.WithPassword("x")}, (*redistest.Server).UnixURL},
		"with TLS":           {[]redistest.Option{redistest.WithTLS()}, (*redistest.Server).URL},
		"with mutual TLS":    {[]redistest.Option{redistest.WithMutualTLS()}, (*redistest.Server).URL},
		"with persistence":   {[]redistest.Option{redistest.WithPersistence()}, (*redistest.Server).URL},
		"with the default user off": {
			[]redistest.Option{redistest.WithACLFile("user default off", "user app on >pw ~* &* +@all")},
			func(s *redistest.Server) string { return s.URLFor("app", "pw") },
		},
		"with a user of its own": {
			[]redistest.Option{redistest.WithUser("app", "on", ">p w", "~*", "&*", "+@all")},
			func(s *redistest.Server) string { return s.URLFor("app", "p w") },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.opts...)
			options, err := redis.ParseURL(test.url(server))
			if err != nil {
				t.Fatal(err)
			}
			if options.TLSConfig != nil {
				options.TLSConfig = server.Certificates().ClientConfig()
			}
			options.MaintNotificationsConfig = server.Options().MaintNotificationsConfig
			client := redis.NewClient(options)
			t.Cleanup(func() { _ = client.Close() })
			if got, err := client.Ping(t.Context()).Result(); err != nil || got != "PONG" {
				t.Fatalf("ping: %q, %v", got, err)
			}
		})
	}
}

func TestServerKeepsOutWhoLacksTheSecret(t *testing.T) {
	t.Parallel()
	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithPassword("right"))
		options := server.Options()
		options.Password = "wrong"
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		if err := client.Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS") {
			t.Fatalf("ping with a wrong password: %v", err)
		}
	})
	t.Run("no client certificate", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.WithMutualTLS())
		options := server.Options()
		options.TLSConfig.Certificates = nil
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Fatal("ping without a client certificate went through")
		}
	})
}

func TestServerForgetsOnRestartUnlessAskedToPersist(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opts []redistest.Option
		want error
	}{
		"by default":       {nil, redis.Nil},
		"with persistence": {[]redistest.Option{redistest.WithPersistence()}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.opts...)
			client := server.Client(t)
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			addr, pid := server.Addr(), server.Pid()
			server.Kill()
			if server.Pid() != 0 {
				t.Error("a killed server still has a pid")
			}
			if err := client.Ping(t.Context()).Err(); err == nil {
				t.Fatal("a killed server answered")
			}
			server.MustRestart(t)
			if server.Addr() != addr || server.Pid() == pid {
				t.Errorf("restart: address %s -> %s, pid %d -> %d", addr, server.Addr(), pid, server.Pid())
			}
			if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, test.want) {
				t.Errorf("get after restart: %v, want %v", err, test.want)
			}
		})
	}
}

func TestPausedServerHoldsItsAnswers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("ping of a paused server: %v, want a time-out", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("ping of a resumed server: %v", err)
	}
	server.Kill()
	if err := server.Pause(); err == nil {
		t.Error("pause of a server that is down went through")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestServersStartedAtOnceAreAllTheirOwn(t *testing.T) {
	t.Parallel()
	const count = 12
	servers := make([]*redistest.Server, count)
	var group sync.WaitGroup
	for i := range servers {
		group.Go(func() {
			server, err := redistest.Run(t.Context(), t.TempDir())
			if err != nil {
				t.Error(err)
				return
			}
			servers[i] = server
			t.Cleanup(server.Close)
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for i, server := range servers {
		if err := server.Client(t).Set(t.Context(), "me", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, server := range servers {
		if got, err := server.Client(t).Get(t.Context(), "me").Int(); err != nil || got != i {
			t.Errorf("server %d says %d, %v", i, got, err)
		}
	}
}

func TestConfigurationLinesWinOverOurs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("maxmemory", "1mb"), redistest.WithConfig("maxmemory-policy", "noeviction"))
	got, err := server.Client(t).ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "1048576" {
		t.Fatalf("maxmemory: %v, %v", got, err)
	}
	err = server.Client(t).Set(t.Context(), "big", strings.Repeat("x", 2<<20), 0).Err()
	if err == nil {
		err = server.Client(t).Set(t.Context(), "more", "x", 0).Err()
	}
	if err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Errorf("set over maxmemory: %v", err)
	}
}

func TestWrongConfigurationIsToldWithTheLog(t *testing.T) {
	t.Parallel()
	_, err := redistest.Run(t.Context(), t.TempDir(), redistest.WithConfig("no-such-thing", "1"))
	if err == nil || !strings.Contains(err.Error(), "no-such-thing") {
		t.Fatalf("run: %v, want the server's own words", err)
	}
}

func TestSecretsAreNotForOthersToRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPassword("canary"))
	entries, err := os.ReadDir(server.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", entry.Name(), info.Mode(), err)
		}
	}
}
