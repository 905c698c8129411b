package locking

import (
	"errors"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// A master that lets no new connection in has answered nothing: see rediserr.Settle.
func TestAMaster_that_shuts_us_out_answers_nothing(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireAuth("C4n4ry")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "old", ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	space, err := keys.NewSpace("", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := look(t.Context(), client, keysOf(space, "a"), "a"); !errors.Is(err, ErrDenied) {
		t.Errorf("it looks at %+v, %v", got, err)
	}
	if p, err := processOf(t.Context(), client); !errors.Is(err, ErrDenied) {
		t.Errorf("it says %+v, %v: no quarantine without an answer", p, err)
	}
}
