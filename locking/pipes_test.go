package locking

import (
	"log/slog"
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
