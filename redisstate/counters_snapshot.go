package redisstate

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// CountersSnapshot is what all counters and gauges were at one moment, by their
// names. On Cluster it is one moment for each kind.
type CountersSnapshot struct {
	Counters map[string]int64
	Gauges   map[string]float64
}

// Snapshot reads everything in one round trip. What another program wrote there
// under names that cannot be ours is left out; if a value is not a number the
// error wraps ErrCorrupt and the snapshot holds the others.
func (c *Counters) Snapshot(ctx context.Context) (CountersSnapshot, error) {
	if err := c.checkOpen(opSnapshot); err != nil {
		return CountersSnapshot{}, err
	}
	var counters, gauges *redis.MapStringStringCmd
	cmds, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		counters, gauges = p.HGetAll(ctx, c.counters.key), p.HGetAll(ctx, c.gauges.key)
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return CountersSnapshot{}, countersError(ctx, opSnapshot, err)
	}
	var snapshot CountersSnapshot
	var bad int
	snapshot.Counters = parseNumbers(counters.Val(), &bad, func(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) })
	snapshot.Gauges = parseNumbers(gauges.Val(), &bad, func(text string) (float64, error) {
		v, err := strconv.ParseFloat(text, 64)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			err = strconv.ErrRange
		}
		return v, err
	})
	if bad > 0 {
		return snapshot, failCounters(opSnapshot, fmt.Errorf("%w: %d numbers are none; another program writes under our namespace", ErrCorrupt, bad))
	}
	return snapshot, nil
}

// parseNumbers keeps what has a valid name and counts what is no number.
func parseNumbers[N int64 | float64](raw map[string]string, bad *int, parse func(string) (N, error)) map[string]N {
	parsed := make(map[string]N, len(raw))
	for name, text := range raw {
		if checkNumberName(name) != nil {
			continue
		}
		n, err := parse(text)
		if err != nil {
			*bad++
			continue
		}
		parsed[name] = n
	}
	return parsed
}
