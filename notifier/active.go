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

// enlist notes that workflow ids are active, or that they have ended.
func (l *eventLog) enlist(ctx context.Context, due map[string]bool) error {
	now, key, endedKey := time.Now(), l.space.Active(), l.space.Ended()
	at := float64(now.UnixMilli())
	var active, ended []redis.Z
	var gone []any
	for id, is := range due {
		if is {
			active = append(active, redis.Z{Score: at, Member: id})
		} else {
			ended = append(ended, redis.Z{Score: at, Member: id})
			gone = append(gone, id)
		}
	}
	before := func(age time.Duration) string { return strconv.FormatInt(now.Add(-age).UnixMilli(), 10) }
	_, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
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
