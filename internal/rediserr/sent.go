package rediserr

import (
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// MayHaveRun tells whether the commands that ended in err may have been
// executed nevertheless: they may have been sent, and Redis did not say what
// became of them. It is false for a reply, which is an answer, and where no
// connection was had. In doubt it is true.
func MayHaveRun(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[redis.Error](err); ok {
		return false
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return false
	}
	return !errors.Is(err, redis.ErrPoolTimeout) && !errors.Is(err, redis.ErrPoolExhausted) && !errors.Is(err, redis.ErrClosed)
}
