package contract

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// redisConfigs reaches the keys of a redisstate.Store past it.
type redisConfigs struct {
	client    redis.UniversalClient
	namespace string
}

// key is the name of a key whose id has nothing to escape.
func (r redisConfigs) key(key redisstate.Key) string {
	name := r.namespace + ":config:" + key.ID
	if key.Digest != "" {
		name += "@" + string(key.Digest)
	}
	return name
}

// each calls do for every key of the namespace.
func (r redisConfigs) each(tb testing.TB, do func(ctx context.Context, key string) error) {
	tb.Helper()
	walk := func(ctx context.Context, node redis.Cmdable) error {
		keys := node.Scan(ctx, 0, r.namespace+":*", 1000).Iterator()
		for keys.Next(ctx) {
			if err := do(ctx, keys.Val()); err != nil {
				return err
			}
		}
		return keys.Err()
	}
	var err error
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(tb.Context(), func(ctx context.Context, node *redis.Client) error { return walk(ctx, node) })
	} else {
		err = walk(tb.Context(), r.client)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// pass ages keys by taking d off their time to live, so that no test waits.
func (r redisConfigs) pass(tb testing.TB, d time.Duration) {
	tb.Helper()
	r.each(tb, func(ctx context.Context, key string) error {
		left, err := r.client.PTTL(ctx, key).Result()
		switch {
		case err != nil:
			return err
		case left == -1: // a key without expiry would be a leak
			tb.Errorf("the key %s never expires", key)
			return nil
		case left <= d:
			return r.client.Del(ctx, key).Err()
		}
		if err := r.client.PExpire(ctx, key, left-d).Err(); err != nil || !strings.HasPrefix(key, r.namespace+":index:") {
			return err
		}
		return r.ageIndex(ctx, key, d)
	})
}

// ageIndex takes d off the deadlines that an index has for what it lists.
func (r redisConfigs) ageIndex(ctx context.Context, key string, d time.Duration) error {
	listed, err := r.client.ZRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: "-inf", Max: "+inf"}).Result()
	if err != nil || len(listed) == 0 {
		return err
	}
	for i := range listed {
		listed[i].Score -= float64(d.Microseconds())
	}
	return r.client.ZAdd(ctx, key, listed...).Err()
}

func (r redisConfigs) flush(tb testing.TB) {
	tb.Helper()
	r.each(tb, func(ctx context.Context, key string) error { return r.client.Del(ctx, key).Err() })
}

func (r redisConfigs) stored(tb testing.TB, key redisstate.Key) []byte {
	tb.Helper()
	raw, err := r.client.Get(tb.Context(), r.key(key)).Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func (r redisConfigs) damage(tb testing.TB, key redisstate.Key, raw []byte) {
	tb.Helper()
	_, err := r.client.TxPipelined(tb.Context(), func(p redis.Pipeliner) error {
		name := r.key(key)
		p.Del(tb.Context(), name)
		if raw == nil {
			p.RPush(tb.Context(), name, "something")
		} else {
			p.Set(tb.Context(), name, raw, 0)
		}
		p.PExpire(tb.Context(), name, time.Hour)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func (r redisConfigs) metadataLife(tb testing.TB, name string) time.Duration {
	tb.Helper()
	left, err := r.client.PTTL(tb.Context(), r.namespace+":metadata:"+name).Result()
	if err != nil {
		tb.Fatal(err)
	}
	return left
}
