package locking

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// A server that refuses the greeting of a new connection answers no command: none of
// them may look as if it did.
func TestPipes_a_refused_connection_answers_nothing(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireAuth("another")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "stale", MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	shared := newPipes(client, slog.New(slog.DiscardHandler))
	t.Cleanup(shared.close)
	for name, p := range map[string]*pipes{"shared": shared, "alone": {client: client}} {
		pipe := client.Pipeline()
		cmds := []redis.Cmder{pipe.Get(t.Context(), "lock"), pipe.Incr(t.Context(), "fence")}
		if err := p.exec(t.Context(), pipe); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, cmd := range cmds {
			if classOf(cmd.Err()) != rediserr.Denied {
				t.Errorf("%s: %s says %v", name, cmd.Name(), cmd.Err())
			}
		}
	}
}

// lossy connections break before the next answer when they are told to.
type lossy struct {
	net.Conn
	lose *atomic.Bool
}

func (l lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.lose.CompareAndSwap(true, false) {
		_ = l.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// A client of the host's repeats commands, and every Cluster's does. A release that ran,
// and was asked for again, would say that the lock was gone.
func TestPipes_are_not_sent_again_by_the_client(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(dial func(context.Context, string, string) (net.Conn, error), addr string) redis.UniversalClient{
		"one server": func(dial func(context.Context, string, string) (net.Conn, error), addr string) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: 3, Dialer: dial})
		},
		"a Cluster": func(dial func(context.Context, string, string) (net.Conn, error), addr string) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, MaxRetries: -1, Dialer: dial})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			var lose atomic.Bool
			client := connect(func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return lossy{conn, &lose}, err
			}, server.Addr())
			t.Cleanup(func() { _ = client.Close() })
			p := newPipes(client, slog.New(slog.DiscardHandler))
			t.Cleanup(p.close)
			for _, lost := range []bool{false, true} {
				pipe := client.Pipeline()
				count := pipe.Incr(t.Context(), "count")
				lose.Store(lost)
				if err := p.exec(t.Context(), pipe); err != nil {
					t.Fatal(err)
				}
				if (count.Err() != nil) != lost {
					t.Errorf("reply lost: %v; the command says %v", lost, count.Err())
				}
			}
			if got, _ := server.Get("count"); got != "2" {
				t.Errorf("the commands ran %s times", got)
			}
		})
	}
}
