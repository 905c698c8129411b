package rediserr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// reply is an error that Redis answered with.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestMayHaveRun_is_false_only_where_Redis_answered_or_was_not_asked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{reply("EXECABORT Transaction discarded because of previous errors."), false},
		{fmt.Errorf("incr: %w", reply("LOADING")), false},
		{&net.OpError{Op: "dial", Err: io.EOF}, false},
		{redis.ErrPoolTimeout, false},
		{redis.ErrClosed, false},
		{&net.OpError{Op: "read", Err: io.EOF}, true},
		{io.EOF, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, true},
		{errors.New("redis: something new"), true},
	} {
		if got := rediserr.MayHaveRun(test.err); got != test.want {
			t.Errorf("%v: got %v", test.err, got)
		}
	}
}
