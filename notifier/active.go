package notifier

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// The workflow ids that publish are kept in one sorted set, by the time when that was
// noted. It is a hint, in a slot of its own: it is written after the log, once an hour
// for each workflow id, and who reads it looks at the log.

const (
	// enlistEvery is how often a publisher notes a workflow id that goes on.
	enlistEvery = time.Hour
	// endedFor is for how long one that ended is still known, for who was not told.
	endedFor = 2 * time.Minute
	// maxEnlisted bounds what a publisher remembers of that; past it, it begins anew.
	maxEnlisted = 10_000
)

// roll is what a publisher has noted. Safe for concurrent use.
type roll struct {
	mu    sync.Mutex
	noted map[string]time.Time // zero: that it has ended
	retry time.Time            // not before, since it could not be noted
}

// change says whether a batch changes what is to be noted of a workflow id: that it is
// active, or that it has ended.
func (r *roll) change(workflowID string, records []record, now time.Time, every time.Duration) (active, changed bool) {
	begins, ends := false, false
	for _, rec := range records {
		if rec.event.Kind == KindStatus && rec.event.OfWorkflow() {
			ends = rec.event.EndsWorkflow()
			begins = !ends
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.retry) {
		return false, false
	}
	at, known := r.noted[workflowID]
	switch {
	case ends:
		return false, !known || !at.IsZero()
	case known && at.IsZero():
		return true, begins // else it is what came late of one that has ended
	}
	return true, begins || !known || now.Sub(at) >= every
}

// note remembers what was noted.
func (r *roll) note(workflowID string, active bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted == nil || len(r.noted) >= maxEnlisted {
		r.noted = make(map[string]time.Time)
	}
	if !active {
		now = time.Time{}
	}
	r.noted[workflowID] = now
}

// failed has it left alone for a moment: of a Cluster the one slot may be away.
func (r *roll) failed(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retry = now.Add(lastRetry)
}

// enlist notes in Redis what a batch changes. If that fails, a batch tries again that
// comes later.
func (p *BackgroundPublisher) enlist(ctx context.Context, workflowID string, records []record) {
	now := time.Now()
	active, changed := p.roll.change(workflowID, records, now, min(enlistEvery, p.options.Retention/2))
	if !changed {
		return
	}
	err := p.try(ctx, func(ctx context.Context) error { return p.sink.enlist(ctx, workflowID, active) })
	if err != nil {
		p.roll.failed(time.Now())
		return
	}
	p.roll.note(workflowID, active, now)
}

// enlist notes that a workflow id is active, or is not any more.
func (l *eventLog) enlist(ctx context.Context, workflowID string, active bool) error {
	now, key := time.Now(), l.space.Active()
	_, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		if active {
			p.ZAdd(ctx, key, redis.Z{Score: float64(now.UnixMilli()), Member: workflowID})
			p.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(now.Add(-l.retention).UnixMilli(), 10))
		} else {
			ended := l.space.Ended()
			p.ZRem(ctx, key, workflowID)
			p.ZAdd(ctx, ended, redis.Z{Score: float64(now.UnixMilli()), Member: workflowID})
			p.ZRemRangeByScore(ctx, ended, "-inf", strconv.FormatInt(now.Add(-endedFor).UnixMilli(), 10))
			p.PExpire(ctx, ended, endedFor)
		}
		p.PExpire(ctx, key, l.retention)
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
