//go:build integration

package pgstate

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
)

// fault is what happens to Redis while workflows are read and written.
type fault struct {
	options Options
	// client connects a process to Redis.
	client func(t *testing.T) redis.UniversalClient
	// inject lets the fault come, and go. Nil for none.
	inject func(ctx context.Context, h *history)
	// unknown adds commits whose writer does not know of them.
	unknown bool
	// losesMarks says that Redis loses what it acknowledged. Then a state may be
	// read for a moment that never was.
	losesMarks bool
	// old is how old a state may be; 0 if it may not.
	old time.Duration
	// after checks at the end that the fault was there.
	after func(t *testing.T, h *history)
}

// explains says whether a change may fail so.
func (f fault) explains(err error) bool {
	return f.inject != nil && (errors.Is(err, redisstate.ErrUnavailable) || errors.Is(err, redisstate.ErrDenied) || errors.Is(err, ErrCommitUnknown))
}

// short lets states come back to Redis before the end of a test that lets changes
// end without it.
var short = Options{ChangeTimeout: 5 * time.Second}

// on is a fault of one server.
func on(server *redistest.Server, inject func(ctx context.Context, h *history)) fault {
	return fault{options: short, client: func(t *testing.T) redis.UniversalClient { return dial(t, server.URL()) }, inject: inject}
}

// readOn returns after so many more reads, or at the end of the test.
func (h *history) readOn(ctx context.Context, n int64) {
	target := h.reads.Load() + n
	waited(ctx, func() bool { return h.reads.Load() >= target || h.t.Failed() })
}

// untilRefused returns once a change was refused since the beginning. The others
// go on writing.
func (h *history) untilRefused(ctx context.Context) {
	waited(ctx, func() bool { return h.count("refused") > 0 || h.t.Failed() })
}

var faults = map[string]func(t *testing.T) fault{
	"without faults": func(t *testing.T) fault {
		f := on(redistest.Start(t), nil)
		f.options = Options{} // marks stay to the end
		f.unknown = true
		return f
	},
	"with killed connections": func(t *testing.T) fault {
		server := redistest.Start(t)
		control := server.ControlClient(t)
		return on(server, func(ctx context.Context, _ *history) {
			_ = control.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes").Err()
		})
	},
	"with a flush": func(t *testing.T) fault {
		server := redistest.Start(t)
		control := server.ControlClient(t)
		f := on(server, func(ctx context.Context, h *history) {
			if err := control.FlushAll(ctx).Err(); err != nil {
				h.t.Error(err)
			}
		})
		f.losesMarks = true
		return f
	},
	"behind a black hole": func(t *testing.T) fault {
		proxy := faultproxy.Start(t, redistest.Start(t).Addr())
		ways := []faultproxy.Direction{faultproxy.Both, faultproxy.ToClient, faultproxy.ToServer}
		var n atomic.Int64
		return fault{
			options: short,
			client:  func(t *testing.T) redis.UniversalClient { return dial(t, "redis://"+proxy.Addr()) },
			inject: func(ctx context.Context, h *history) {
				proxy.BlackHole(ways[int(n.Add(1))%len(ways)])
				h.readOn(ctx, 150)
				h.untilRefused(ctx)
				if err := proxy.Heal(); err != nil {
					h.t.Error(err)
				}
			},
			after: refused,
		}
	},
	"with a server that stands still": func(t *testing.T) fault {
		server := redistest.Start(t)
		f := on(server, func(ctx context.Context, h *history) {
			if err := server.Pause(); err != nil {
				h.t.Error(err)
			}
			h.readOn(ctx, 150)
			h.untilRefused(ctx)
			if err := server.Resume(); err != nil {
				h.t.Error(err)
			}
		})
		f.after = refused
		return f
	},
	"with a server that starts again empty": func(t *testing.T) fault {
		f := restarts(redistest.Start(t))
		// A change whose mark is lost may find its connection dead when it ends.
		f.losesMarks, f.old = true, time.Second
		f.options.TTL = f.old
		return f
	},
	"with a server that starts again with its data": func(t *testing.T) fault {
		return restarts(redistest.Start(t, redistest.WithPersistence()))
	},
	"with a fail-over": func(t *testing.T) fault {
		sentinel := redistest.StartSentinel(t)
		return fault{
			options: Options{TTL: time.Second, ChangeTimeout: short.ChangeTimeout},
			client:  func(t *testing.T) redis.UniversalClient { return dial(t, sentinel.URL()) },
			inject: func(ctx context.Context, h *history) {
				if _, err := sentinel.Failover(ctx); err != nil {
					h.t.Error(err)
				}
			},
			losesMarks: true, // what the replica had not received
			old:        time.Second,
		}
	},
	"with eviction": func(t *testing.T) fault {
		server := redistest.Start(t, redistest.WithConfig("maxmemory", "4mb"), redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
		control := server.ControlClient(t)
		var n atomic.Int64
		f := on(server, func(ctx context.Context, _ *history) {
			for range 500 {
				_ = control.Set(ctx, "filler:"+string(rune('a'+n.Add(1)%1000)), strings.Repeat("x", 20_000), 0).Err()
			}
		})
		f.losesMarks = true
		f.after = func(t *testing.T, _ *history) {
			info, err := control.Info(t.Context(), "stats").Result()
			if err != nil || strings.Contains(info, "evicted_keys:0\r") {
				t.Errorf("nothing was evicted: %v", err)
			}
		}
		return f
	},
	"with keys that expire": func(t *testing.T) fault {
		server := redistest.Start(t)
		control := server.ControlClient(t)
		f := on(server, func(ctx context.Context, h *history) {
			// By Redis' own clock.
			if err := control.Set(ctx, "probe", 1, 1100*time.Millisecond).Err(); err != nil {
				h.t.Error(err)
			}
			waited(ctx, func() bool { return control.Exists(ctx, "probe").Val() == 0 })
		})
		f.options = Options{TTL: time.Second, ChangeTimeout: time.Second}
		return f
	},
}

// restarts kills a server and starts it again.
func restarts(server *redistest.Server) fault {
	f := on(server, func(ctx context.Context, h *history) {
		server.Kill()
		h.readOn(ctx, 50)
		h.untilRefused(ctx)
		if err := server.Restart(ctx); err != nil {
			h.t.Error(err)
		}
	})
	f.after = refused
	return f
}

// refused fails if no change was refused.
func refused(t *testing.T, h *history) {
	t.Helper()
	if h.count("refused") == 0 {
		t.Error("Redis refused no change: the fault was not there")
	}
}

func TestCached_never_reads_what_was_there_before_a_write_returned(t *testing.T) {
	t.Parallel()
	d := startDatabase(t)
	for name, start := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			h := newHistory(t, d, name, f)
			for range historyProcesses {
				h.processes = append(h.processes, d.start(t, f.client(t), f.options))
			}
			h.run()
			if f.after != nil {
				f.after(t, h)
			}
		})
	}
}
