package redisstate

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// lost fails what is behind a look at a wrong type, as a node does that is away.
type lost struct{}

func (lost) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (lost) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (lost) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for i := range slices.Backward(cmds) {
			if cmds[i].Name() == "del" {
				cmds[i].SetErr(io.ErrUnexpectedEOF)
				break
			}
		}
		return err
	}
}

func TestDelete_tells_of_an_outage_behind_a_wrong_type(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	client.AddHook(lost{})
	s := newStore(t, client, quiet())
	if _, err := server.Push(s.space.Config("a"), "x"); err != nil {
		t.Fatal(err)
	}
	s.ordered = false // as on Cluster, where a pipeline goes to several nodes
	if _, err := s.Delete(t.Context(), ID("a"), ID("b")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
