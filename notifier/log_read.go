package notifier

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// view is what a log held at one moment.
type view struct {
	epoch   string            // "" when there is no log
	seq     int64             // id of the newest entry
	bodies  []string          // the newest entries, oldest of them first
	states  []state           // the snapshot, if it was asked for
	details map[string]string // bodies of the snapshot by field
}

// state is the current state of one task.
type state struct {
	key      string
	score    int64
	event    *entry
	progress *entry // nil when there is none that counts
}

// first is the id of the oldest entry in the view: the k-th entry from the end
// of the log has the id seq-k+1.
func (v *view) first() int64 { return v.seq - int64(len(v.bodies)) + 1 }

// newest is the body of the newest entry, "" when there is none.
func (v *view) newest() string {
	if len(v.bodies) == 0 {
		return ""
	}
	return v.bodies[len(v.bodies)-1]
}

// after is the view without the entries up to id.
func (v *view) after(id int64) *view {
	skip := min(max(id-v.first()+1, 0), int64(len(v.bodies)))
	return &view{epoch: v.epoch, seq: v.seq, bodies: v.bodies[skip:]}
}

// between is the view of the entries after id up to last.
func (v *view) between(id, last int64) *view {
	to := min(max(last-v.first()+1, 0), int64(len(v.bodies)))
	return (&view{epoch: v.epoch, seq: v.first() + to - 1, bodies: v.bodies[:to]}).after(id)
}

// wentBack reports whether the log has lost its end since its entry id was
// body: Redis came back with an older state, under the same epoch.
func (v *view) wentBack(id int64, body string) bool {
	switch {
	case v.seq < id:
		return true
	case id < v.first() || body == "":
		return false // not to be seen
	}
	return v.bodies[id-v.first()] != body
}

// read takes a consistent view of the newest entries (all when newest is 0) and
// of the snapshot when wanted. It may be repeated freely.
func (l *eventLog) read(ctx context.Context, workflowID string, newest int, snapshot bool) (*view, error) {
	return l.readKeys(ctx, l.space.Events(workflowID), newest, snapshot)
}

func (l *eventLog) readKeys(ctx context.Context, k keys.Events, newest int, snapshot bool) (*view, error) {
	pipe := l.client.TxPipeline()
	epoch := pipe.Get(ctx, k.Epoch)
	seq := pipe.Get(ctx, k.Seq)
	bodies := pipe.LRange(ctx, k.Log, int64(-newest), -1)
	var scores *redis.ZSliceCmd
	var details *redis.MapStringStringCmd
	if snapshot {
		scores = pipe.ZRangeWithScores(ctx, k.Snapshot, 0, -1)
		details = pipe.HGetAll(ctx, k.Details)
	}
	cmds, err := pipe.Exec(ctx)
	if err = l.outcome(ctx, cmds, err); err != nil {
		return nil, err
	}
	v := &view{epoch: epoch.Val(), bodies: bodies.Val()}
	v.seq, _ = strconv.ParseInt(seq.Val(), 10, 64) // absent: 0
	if v.epoch == "" || v.seq == 0 {
		// One of them expired or was evicted without the other: the ids mean
		// nothing any more. The next append makes both anew.
		v.epoch, v.seq, v.bodies = "", 0, nil
	}
	if snapshot {
		v.details = details.Val()
		v.states = statesOf(scores.Val(), v.details)
	}
	return v, nil
}

// readFrom reads so much that the entry at the position is in the view, if the
// log still has it. It begins with a guess; what comes meanwhile pushes the
// position out of it.
func readFrom(at position, guess int, read func(newest int) (*view, error)) (*view, error) {
	v, err := read(guess)
	if err == nil && v.epoch == at.epoch && v.first() > at.id {
		v, err = read(int(v.seq-at.id) + 2*guess)
	}
	if err == nil && v.epoch == at.epoch && v.first() > at.id {
		v, err = read(0)
	}
	return v, err
}

// statesOf joins the snapshot with its bodies. A task without a readable body
// is left out.
func statesOf(scores []redis.Z, details map[string]string) []state {
	states := make([]state, 0, len(scores))
	for _, z := range scores {
		key, ok := z.Member.(string)
		if !ok {
			continue
		}
		s := state{key: key, score: int64(z.Score)}
		var err error
		if s.event, err = decode(details[statusField(s.score, key)]); err != nil {
			continue
		}
		if body, ok := details[progressField(key)]; ok && rankOf(s.score) != rankTerminal {
			p, err := decode(body)
			if err == nil && int64(p.Attempt) == attemptOf(s.score) {
				s.progress = p
			}
		}
		states = append(states, s)
	}
	slices.SortStableFunc(states, func(a, b state) int { return a.event.Time.Compare(b.event.Time) })
	return states
}

// lastNumber is the highest number of source in the log, 0 when there is none:
// what a publisher has to know before it repeats an append whose reply was
// lost.
func (l *eventLog) lastNumber(ctx context.Context, workflowID, source string) (int64, error) {
	v, err := l.read(ctx, workflowID, 0, false)
	if err != nil {
		return 0, err
	}
	for _, body := range slices.Backward(v.bodies) {
		if !strings.Contains(body, source) { // spares decoding
			continue
		}
		if e, err := decode(body); err == nil && e.Source == source {
			return e.Number, nil
		}
	}
	return 0, nil
}
