//go:build unix

package redistest

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Client is a new client of the default user over TCP, closed with the test.
func (s *Server) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	return s.client(tb, s.Options())
}

// ControlClient is a new client of a user that may do everything, whatever the
// ACL of the test says; closed with the test.
func (s *Server) ControlClient(tb testing.TB) *redis.Client {
	tb.Helper()
	options := s.controlOptions()
	options.PoolSize = 4
	return s.client(tb, options)
}

func (s *Server) client(tb testing.TB, options *redis.Options) *redis.Client {
	tb.Helper()
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Options are the options of Client, for callers that change some: a pool of
// 32 connections, no retries, time-outs of 5 s, deadlines of contexts kept.
func (s *Server) Options() *redis.Options {
	options := s.options()
	options.Password = s.settings.password
	return options
}

func (s *Server) options() *redis.Options {
	options := &redis.Options{
		Addr:                  s.Addr(),
		DialTimeout:           5 * time.Second,
		ReadTimeout:           5 * time.Second,
		WriteTimeout:          5 * time.Second,
		PoolSize:              32,
		PoolTimeout:           5 * time.Second,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
	if s.certificates != nil {
		options.TLSConfig = s.certificates.ClientConfig()
	}
	return options
}
