//go:build integration

package locking_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

const patience = 30 * time.Second

// brief are options under which a lease ends within a second of silence.
var brief = locking.Options{TTL: time.Second, RenewEvery: 200 * time.Millisecond, Wait: patience}

func quiet(opts locking.Options) locking.Options {
	opts.Registerer = prometheus.NewRegistry()
	opts.Logger = slog.New(slog.DiscardHandler)
	return opts
}

// open is one more manager on the server, with a client of its own.
func open(tb testing.TB, server *redistest.Server, opts locking.Options) *locking.Manager {
	tb.Helper()
	m, err := locking.New(server.Client(tb), quiet(opts))
	if err != nil {
		tb.Fatal(err)
	}
	closeLater(tb, m)
	return m
}

// openAs opens a Manager for a user of the server, who need not be let in.
func openAs(tb testing.TB, server *redistest.Server, user, password string) *locking.Manager {
	tb.Helper()
	options := server.Options()
	options.Username, options.Password = user, password
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	m, err := locking.New(client, quiet(brief))
	if err != nil {
		tb.Fatal(err)
	}
	closeLater(tb, m)
	return m
}

func closeLater(tb testing.TB, m *locking.Manager) {
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
}

func acquire(t *testing.T, m *locking.Manager, opts ...locking.Option) *locking.Lease {
	t.Helper()
	lease, err := m.Acquire(t.Context(), "r", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func release(t *testing.T, lease *locking.Lease) {
	t.Helper()
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func lost(t *testing.T, lease *locking.Lease) {
	t.Helper()
	select {
	case <-lease.Context().Done():
	case <-time.After(patience):
		t.Fatal("the lease did not end")
	}
	if cause := context.Cause(lease.Context()); !errors.Is(cause, locking.ErrLost) {
		t.Fatalf("ended by %v; want ErrLost", cause)
	}
}

// until waits for a condition that has no event.
func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-giveUp:
			tb.Fatalf("never: %s", what)
		}
	}
}
