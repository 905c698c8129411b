package redisstate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// bells are what writers ring when they write over a config or delete it, for
// processes that answer reads by id from memory. All writers ring, since none
// knows who listens. A config that is new needs no bell: what is missing is
// remembered by nobody.
type bells struct {
	space  keys.Space
	log    *slog.Logger
	silent atomic.Int64 // until when none is rung, in Unix nanoseconds; 0: none was refused yet
}

// ring queues a bell for an id; nil if it cannot be rung. It says its key, in
// braces: so it has that key's slot, and is one transaction with it on Cluster
// too.
func (b *bells) ring(ctx context.Context, p redis.Pipeliner, id string) *redis.IntCmd {
	if time.Now().UnixNano() < b.silent.Load() {
		return nil
	}
	bell := redis.NewIntCmd(ctx, "publish", b.space.Invalidation(), "{"+b.space.Config(id)+"}")
	bell.SetFirstKeyPos(2)
	_ = p.Process(ctx, bell)
	return bell
}

// parse tells for which id a bell rings.
func (b *bells) parse(payload string) (id string, ok bool) {
	key, opened := strings.CutPrefix(payload, "{")
	key, closed := strings.CutSuffix(key, "}")
	if !opened || !closed {
		return "", false
	}
	return b.space.ConfigID(key)
}

// refusedFor is for how long no bell is rung after one was refused.
const refusedFor = time.Minute

// refused tells whether bells were refused for want of a permission, and not all
// of cmds for another reason. Then none is rung for a while: a write matters more.
func (b *bells) refused(ctx context.Context, cmds []redis.Cmder, rung []*redis.IntCmd) bool {
	for _, bell := range rung {
		if bell == nil || rediserr.Classify(ctx, bell.Err()) != rediserr.Denied {
			continue
		}
		own := slices.ContainsFunc(cmds, func(other redis.Cmder) bool {
			return other.Name() != bell.Name() && !errors.Is(other.Err(), bell.Err())
		})
		if !own {
			continue
		}
		if b.silent.Swap(time.Now().Add(refusedFor).UnixNano()) == 0 {
			b.log.InfoContext(ctx, "This user may not publish; processes with Options.NearCacheByKey hear of overwritten and deleted configs up to 30 s late",
				"op", opSet, "family", family, "remedy", "give it +publish and the channel "+b.space.Invalidation())
		}
		return true
	}
	return false
}
