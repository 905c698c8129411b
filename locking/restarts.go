package locking

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// restarts tells for how long the Redis process behind a client has been running.
// One that was started again may have forgotten leases: when A holds masters 1 and
// 2, and 2 starts again empty, B could get 2 and 3. So for the quarantine, which is
// at least as long as any lease, its vote does not count.
//
// It is asked after each new connection. A connection leads to one process, so as
// long as none is made, commands go to the process that was asked, or nowhere.
type restarts struct {
	dials atomic.Int64

	mu    sync.Mutex
	known bool
	asked int64     // dials when it was asked
	since time.Time // when the process was started, or a moment later; zero: no matter
}

// watched are the clients that carry our hook already.
var watched sync.Map // weak.Pointer[redis.Client] -> *restarts

func restartsOf(client *redis.Client) *restarts {
	key := weak.Make(client)
	if r, ok := watched.Load(key); ok {
		return r.(*restarts) //nolint:forcetypeassert,errcheck // nothing else is stored
	}
	r, known := watched.LoadOrStore(key, new(restarts))
	mine := r.(*restarts) //nolint:forcetypeassert,errcheck // nothing else is stored
	if !known {
		client.AddHook(countDials{&mine.dials})
		runtime.AddCleanup(client, func(key weak.Pointer[redis.Client]) { watched.Delete(key) }, key)
	}
	return mine
}

// countDials counts connections before they are used.
type countDials struct{ n *atomic.Int64 }

func (d countDials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		d.n.Add(1)
		return conn, err
	}
}
func (countDials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (countDials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// left is what is left of the quarantine of the process that answered something
// that was sent at the given time, and a moment ago.
func (r *restarts) left(ctx context.Context, client *redis.Client, sent time.Time, quarantine time.Duration) (time.Duration, error) {
	dials := r.dials.Load()
	r.mu.Lock()
	known, asked, since := r.known, r.asked, r.since
	r.mu.Unlock()
	if !known || asked != dials {
		var err error
		if since, err = startOf(ctx, client); err != nil {
			return 0, err
		}
		r.mu.Lock()
		r.known, r.asked, r.since = true, dials, since
		r.mu.Unlock()
	}
	if since.IsZero() {
		return 0, nil
	}
	return max(quarantine-sent.Sub(since), 0), nil
}

// startOf asks when the process was started, and gives that or up to two seconds
// later. Zero means that it cannot be told. (That it keeps whatever it acknowledged is no
// reason to trust it at once: how the one before it was set up, or that its files are
// those of that one, it does not say.)
func startOf(ctx context.Context, client *redis.Client) (time.Time, error) {
	info, err := client.Info(ctx, "server").Result()
	answered := time.Now()
	switch class := classOf(err); {
	case class == rediserr.OK:
	case class == rediserr.Permanent, class == rediserr.Denied && !rediserr.IsShutOut(err):
		return time.Time{}, nil // the check at start says so
	default:
		return time.Time{}, wrap("locking: ask for how long Redis is up", err)
	}
	up, ok := uptime(info)
	if !ok {
		return time.Time{}, nil
	}
	// Redis subtracts two times that are cut to seconds: it may be up for almost a
	// second less than it says.
	return answered.Add(-up + time.Second), nil
}

// uptime is what INFO says, in whole seconds.
func uptime(info string) (time.Duration, bool) {
	_, rest, _ := strings.Cut(info, "uptime_in_seconds:")
	text, _, _ := strings.Cut(rest, "\n")
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	return time.Duration(seconds) * time.Second, err == nil
}
