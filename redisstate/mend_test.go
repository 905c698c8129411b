package redisstate

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A Cluster is asked again who has which slot when a node is out of reach, by one
// command or one of a pipeline, and not when it answers or the caller gave up.
func TestSlotsHook_asks_again_when_a_node_is_away(t *testing.T) {
	t.Parallel()
	away := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, test := range map[string]struct {
		err  error
		asks bool
	}{
		"refused":      {away, true},
		"timed out":    {context.DeadlineExceeded, true},
		"no error":     {nil, false},
		"missing":      {redis.Nil, false},
		"wrong type":   {replyError("WRONGTYPE"), false},
		"given up":     {context.Canceled, false},
		"client ended": {redis.ErrClosed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			h := slotsHook{func(context.Context) { asked++ }}
			cmd := redis.NewStringCmd(t.Context(), "get", "k")
			err := h.ProcessHook(func(context.Context, redis.Cmder) error { return test.err })(t.Context(), cmd)
			if !errors.Is(err, test.err) || asked > 0 != test.asks {
				t.Errorf("a command: asked %d times, %v", asked, err)
			}
			asked = 0
			ok, other := redis.NewStringCmd(t.Context(), "get", "a"), redis.NewStringCmd(t.Context(), "get", "b")
			err = h.ProcessPipelineHook(func(context.Context, []redis.Cmder) error {
				ok.SetErr(replyError("WRONGTYPE")) // which is what the pipeline ends in
				other.SetErr(test.err)
				return ok.Err()
			})(t.Context(), []redis.Cmder{ok, other})
			if !errors.Is(err, ok.Err()) || asked > 0 != test.asks {
				t.Errorf("a pipeline: asked %d times, %v", asked, err)
			}
		})
	}
}
