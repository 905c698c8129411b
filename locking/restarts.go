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

// restarts tells of the Redis process behind a client for how long it has been running,
// and since when it has been the same.
//
// One that was started again may have forgotten leases: when A holds masters 1 and
// 2, and 2 starts again empty, B could get 2 and 3. So for the quarantine, which is
// at least as long as any lease, its vote does not count. And one that took over, or
// was started again, may have forgotten whom the lock was granted last.
//
// It is asked after each new connection. A connection leads to one process, so as
// long as none is made, commands go to the process that was asked, or nowhere. (On
// Cluster they go where they are redirected, and a process may have ceased to be a
// master and become one again: where that matters it is asked anew, see node.vouch.)
type restarts struct {
	dials atomic.Int64

	mu    sync.Mutex
	known bool
	asked int64 // dials when it was asked
	last  process
	// steady is when the history was found to be that of last, or a moment later.
	steady time.Time
}

// process is what a Redis process says of itself.
type process struct {
	since time.Time // when it was started, or a moment later; zero: it cannot be told
	// history is another for each process, and for each time that one became a master:
	// what is in its data, and what is not, goes back to one line of events. (It may
	// change without that, as when the first replica comes: no harm.)
	history string
	mute    bool // its history is not known: it does not say, or is no master any more
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

// ask is what the process says that answered something a moment ago, and since when its
// history has been the same; zero if that cannot be told. Anew means not by what it said
// before.
func (r *restarts) ask(ctx context.Context, client *redis.Client, anew bool) (p process, steady time.Time, err error) {
	dials := r.dials.Load()
	if p, steady, ok := r.told(dials); ok && !anew {
		return p, steady, nil
	}
	if p, err = processOf(ctx, client); err != nil {
		return process{}, time.Time{}, err
	}
	return p, r.note(p, dials), nil
}

// told is what was said since the last connection was made.
func (r *restarts) told(dials int64) (process, time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.steady, r.known && r.asked == dials
}

func (r *restarts) note(p process, dials int64) (steady time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.mute:
		r.steady = time.Time{}
	case !r.known || r.last.mute || r.last.history != p.history:
		r.steady = time.Now()
	}
	r.known, r.asked, r.last = true, dials, p
	return r.steady
}

// left is what is left of the quarantine of a process that was sent something at the
// given time.
func (p process) left(sent time.Time, quarantine time.Duration) time.Duration {
	if p.since.IsZero() {
		return 0
	}
	return max(quarantine-sent.Sub(p.since), 0)
}

// processOf asks a process of itself. It was started when it says or up to two seconds
// before. (That it keeps whatever it acknowledged is no reason to trust it at once: how
// the one before it was set up, or that its files are those of that one, it does not
// say.)
func processOf(ctx context.Context, client *redis.Client) (process, error) {
	pipe := client.Pipeline() // Redis 6 takes one section
	server, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "replication")
	_, _ = rediserr.Settle(pipe.Exec(ctx)) // each has its own
	answered := time.Now()
	p := process{history: field(server.Val(), "run_id") + "/" + field(replication.Val(), "master_replid")}
	p.mute = p.history == "/" || field(replication.Val(), "role") == "slave"
	for _, said := range []*redis.StringCmd{server, replication} {
		switch err := said.Err(); classOf(err) {
		case rediserr.OK:
		case rediserr.Permanent: // there is no INFO, the check at start says so
			p.mute = !embedded(err)
		case rediserr.Denied:
			if rediserr.IsShutOut(err) {
				return process{}, wrap("locking: ask for how long Redis is up", err)
			}
			p.mute = true
		default:
			return process{}, wrap("locking: ask for how long Redis is up", err)
		}
	}
	if up, ok := uptime(server.Val()); ok {
		// Redis subtracts two times that are cut to seconds: it may be up for almost a
		// second less than it says.
		p.since = answered.Add(-up + time.Second)
	}
	return p, nil
}

// embedded tells whether a refusal of INFO is that of miniredis, which lives and dies with
// this process, and has no other history.
func embedded(err error) bool {
	return strings.Contains(err.Error(), "section (") && strings.HasSuffix(err.Error(), ") is not supported")
}

// field is one line of INFO, "" if it is not there.
func field(info, name string) string {
	_, rest, _ := strings.Cut("\n"+info, "\n"+name+":")
	text, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(text)
}

// uptime is what INFO says, in whole seconds.
func uptime(info string) (time.Duration, bool) {
	seconds, err := strconv.ParseInt(field(info, "uptime_in_seconds"), 10, 32)
	return time.Duration(seconds) * time.Second, err == nil
}
