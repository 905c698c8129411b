package notifier

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// The workflow ids that publish are kept in one sorted set, by the time when that was
// noted. It is a hint, in a slot of its own: it is written after the log, once an hour
// for each workflow id, and who reads it looks at the log.

const (
	// endedFor is for how long one that ended is still known, for who was not told.
	endedFor = 2 * time.Minute
	// maxListed is how many workflow ids are noted by one command.
	maxListed = 500
)

// enlist notes what is due by workflow id.
func (l *eventLog) enlist(ctx context.Context, due map[string]listing) error {
	stale, err := l.stale(ctx, due)
	if err != nil {
		return err
	}
	key, endedKey := l.space.Active(), l.space.Ended()
	var active, ended []redis.Z
	var gone []any
	for id, d := range due {
		switch z := (redis.Z{Score: float64(d.at.UnixMilli()), Member: id}); {
		case stale[id]:
		case d.active:
			active = append(active, z)
		default:
			ended = append(ended, z)
			gone = append(gone, id)
		}
	}
	now := time.Now()
	before := func(age time.Duration) string { return strconv.FormatInt(now.Add(-age).UnixMilli(), 10) }
	_, err = l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for some := range slices.Chunk(active, maxListed) {
			p.ZAdd(ctx, key, some...)
		}
		if len(active) > 0 {
			p.ZRemRangeByScore(ctx, key, "-inf", before(l.retention))
		}
		for some := range slices.Chunk(gone, maxListed) {
			p.ZRem(ctx, key, some...)
		}
		p.PExpire(ctx, key, l.retention)
		for some := range slices.Chunk(ended, maxListed) {
			p.ZAdd(ctx, endedKey, some...)
		}
		if len(ended) > 0 {
			p.ZRemRangeByScore(ctx, endedKey, "-inf", before(endedFor))
			p.PExpire(ctx, endedKey, endedFor)
		}
		return nil
	})
	return err
}

// stale tells of which workflow ids another process has noted something later, by the
// clocks of both.
func (l *eventLog) stale(ctx context.Context, due map[string]listing) (map[string]bool, error) {
	var ids []string
	for id, d := range due {
		if d.late {
			ids = append(ids, id)
		}
	}
	stale := make(map[string]bool)
	for some := range slices.Chunk(ids, maxListed) {
		var active, ended *redis.FloatSliceCmd
		_, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			active, ended = p.ZMScore(ctx, l.space.Active(), some...), p.ZMScore(ctx, l.space.Ended(), some...)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for i, id := range some {
			noted := active.Val()[i]
			if due[id].active {
				noted = ended.Val()[i]
			}
			stale[id] = noted > float64(due[id].at.UnixMilli())
		}
	}
	return stale, nil
}

// Active lists workflow ids that publish events, a page of about limit (at least 1) at
// a time: begin with cursor 0, and pass what it returns until that is 0. Ids come in no
// order, and may come twice. One that ended a moment ago, or whose processes were
// killed, may be among them until the retention is over; one whose first event is less
// than a round trip old may be missing. Errors: ErrUnavailable, ErrDenied, ErrClosed,
// or ctx's.
func (h *Hub) Active(ctx context.Context, cursor uint64, limit int) (workflowIDs []string, next uint64, err error) {
	if h.ctx.Err() != nil {
		return nil, 0, fmt.Errorf("notifier: active: %w", ErrClosed)
	}
	bounded, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	members, next, err := h.log.client.ZScan(bounded, h.log.space.Active(), cursor, "", int64(max(limit, 1))).Result()
	if err != nil {
		return nil, 0, rediserr.Wrap(ctx, "notifier: list active workflows", family, err)
	}
	for i := 0; i+1 < len(members); i += 2 { // each with its score
		workflowIDs = append(workflowIDs, members[i])
	}
	return workflowIDs, next, nil
}

// justEnded lists the workflow ids that ended since then, within the last minutes.
func (h *Hub) justEnded(ctx context.Context, since time.Time) ([]string, error) {
	bounded, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	from := strconv.FormatInt(since.Add(-time.Second).UnixMilli(), 10) // clocks differ
	ids, err := h.log.client.ZRangeByScore(bounded, h.log.space.Ended(), &redis.ZRangeBy{Min: from, Max: "+inf"}).Result()
	return ids, rediserr.Wrap(ctx, "notifier: list workflows that ended", family, err)
}
