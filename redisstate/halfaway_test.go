package redisstate

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// halfAway is a hook by which the keys that hold a text are on a node that is away, as
// on a Cluster: the other commands of a pipeline are answered.
type halfAway struct{ text string }

func (halfAway) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h halfAway) lose(cmd redis.Cmder) {
	if name, _ := cmd.Args()[min(1, len(cmd.Args())-1)].(string); strings.Contains(name, h.text) {
		cmd.SetErr(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")})
	}
}

func (h halfAway) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if h.lose(cmd); cmd.Err() != nil {
			return cmd.Err()
		}
		return err
	}
}

func (h halfAway) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			h.lose(cmd)
		}
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				return cmd.Err()
			}
		}
		return err
	}
}

// What one node says about one key hides nothing of another that is away.
func TestStore_tells_an_outage_beside_a_key_of_another_type(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away string
		use  func(ctx context.Context, s *Store, ref Ref) error
	}{
		"Extend": {"good", func(ctx context.Context, s *Store, _ Ref) error {
			_, err := s.Extend(ctx, 48*time.Hour, ID("list"), ID("good"))
			return err
		}},
		"TTL": {"list@", func(ctx context.Context, s *Store, ref Ref) error {
			_, err := s.TTL(ctx, ref.Key())
			return err
		}},
		"Get": {"list@", func(ctx context.Context, s *Store, ref Ref) error {
			_, err := s.Get(ctx, ref.Key())
			return err
		}},
		"GetMany": {"good", func(ctx context.Context, s *Store, _ Ref) error {
			_, err := s.GetMany(ctx, ID("list"), ID("good"))
			return err
		}},
		"Delete": {"list@", func(ctx context.Context, s *Store, ref Ref) error {
			_, err := s.Delete(ctx, ref.Key())
			return err
		}},
		"ExtendWorkflow": {"good", func(ctx context.Context, s *Store, _ Ref) error {
			_, err := s.ExtendWorkflow(ctx, "wf", 48*time.Hour)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			s := v.open(Options{})
			ref := v.set(s, "list", 1)
			v.set(s, "list", 2)
			v.set(s, "good", 1)
			v.server.Del("temporal-redis:config:list")
			if _, err := v.server.Push("temporal-redis:config:list", "x"); err != nil {
				t.Fatal(err)
			}
			client := newClient(t, v.server)
			client.AddHook(halfAway{test.away})
			o := quiet()
			o.NearCacheBytes = -1
			if err := test.use(t.Context(), newStore(t, client, o), ref); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v; want ErrUnavailable", err)
			}
		})
	}
}
