package notifier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// eventLog is the log of every workflow id, in Redis.
type eventLog struct {
	client redis.UniversalClient
	space  keys.Space

	// What only publishers need.
	sharded   bool
	length    int
	tasks     int
	retention time.Duration
}

// record is an event on its way into the log.
type record struct {
	event *Event
	key   string // event.TaskKey()
	body  string
}

// append puts the records at the end of the log, moves the snapshot on and
// rings, all in one MULTI: one round trip, and either everything or nothing of
// it happens. It returns the id of the last one. After an error that means an outage it
// is unknown whether it happened.
func (l *eventLog) append(ctx context.Context, workflowID string, records []record) (last int64, err error) {
	k := l.space.Events(workflowID)
	now := time.Now()
	pipe := l.client.TxPipeline()

	// A new log starts at the current microsecond: ids rise also over a flush,
	// and stay exact in JavaScript's numbers.
	seed := now.UnixMicro()
	seeded := redis.NewIntCmd(ctx, "setnx", k.Seq, seed)
	_ = pipe.Process(ctx, once{seeded})
	seq := pipe.IncrBy(ctx, k.Seq, int64(len(records)))
	_ = pipe.Process(ctx, redis.NewIntCmd(ctx, "setnx", k.Epoch, newEpoch(seed)))

	bodies := make([]any, len(records))
	for i, r := range records {
		bodies[i] = r.body
	}
	pipe.RPush(ctx, k.Log, bodies...)
	pipe.LTrim(ctx, k.Log, int64(-l.length), -1)

	s := collectStates(records)
	if len(s.scores) > 0 {
		pipe.ZAddArgs(ctx, k.Snapshot, redis.ZAddArgs{GT: true, Members: s.scores})
	}
	if len(s.fields) > 0 {
		pipe.HSet(ctx, k.Details, s.fields...)
	}
	if len(s.obsolete) > 0 {
		pipe.HDel(ctx, k.Details, s.obsolete...)
	}
	count := pipe.ZCard(ctx, k.Snapshot)
	for _, key := range []string{k.Seq, k.Epoch, k.Log, k.Snapshot, k.Details} {
		pipe.PExpire(ctx, key, l.retention)
	}
	for _, r := range records {
		if l.sharded {
			pipe.SPublish(ctx, k.Channel, r.body)
		} else {
			pipe.Publish(ctx, k.Channel, r.body)
		}
	}

	cmds, err := pipe.Exec(ctx)
	if err = l.outcome(ctx, cmds, err); err != nil {
		return 0, err
	}
	if count.Val() > int64(l.tasks) {
		_ = l.prune(ctx, k) // the next append asks again
	}
	return seq.Val(), nil
}

// states is what a batch of records does to the snapshot.
type states struct {
	scores   []redis.Z
	fields   []any
	obsolete []string
}

func collectStates(records []record) states {
	current := make(map[string]record) // by task: the state that counts
	progress := make(map[string]string)
	for _, r := range records {
		switch r.event.Kind {
		case KindStatus:
			if known, ok := current[r.key]; !ok || r.event.Supersedes(*known.event) {
				current[r.key] = r
			}
		case KindProgress:
			progress[r.key] = r.body
		}
	}
	var s states
	for key, r := range current {
		score := scoreOf(r.event)
		s.scores = append(s.scores, redis.Z{Score: float64(score), Member: key})
		s.fields = append(s.fields, statusField(score, key), r.body)
		s.obsolete = append(s.obsolete, obsoleteFields(r.event, key)...)
		if r.event.Status.Terminal() {
			delete(progress, key)
		}
	}
	for key, body := range progress {
		s.fields = append(s.fields, progressField(key), body)
	}
	return s
}

// newEpoch names a new log. It begins with the seed of its ids, so that a reader
// knows whether the log still has its beginning.
func newEpoch(seed int64) string {
	return strconv.FormatInt(seed, 10) + "-" + strconv.FormatUint(rand.Uint64(), 36)
}

// firstID is the first id ever given out in the epoch.
func firstID(epoch string) (int64, bool) {
	seed, _, ok := strings.Cut(epoch, "-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(seed, 10, 64)
	return n + 1, err == nil
}

// once is a command that keeps its whole pipeline from being sent again by the
// client: the append is not idempotent, and who retries it looks first (see
// lastNumber).
type once struct{ *redis.IntCmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// outcome is causeOf, and asks a Cluster again who has which slot when a node did not
// answer. go-redis does so when a node redirects it, which one that is gone never does,
// and else once in a minute.
func (l *eventLog) outcome(ctx context.Context, cmds []redis.Cmder, err error) error {
	err = causeOf(cmds, err)
	if cluster, ok := l.client.(*redis.ClusterClient); ok && err != nil && !errors.Is(err, context.Canceled) {
		if _, answered := errors.AsType[redis.Error](err); !answered {
			cluster.ReloadState(ctx) // returns at once; at most five times a second
		}
	}
	return err
}

// causeOf finds why a transaction failed. Redis answers EXECABORT for the whole
// and gives the reason for the command that it refused; a missing key is no
// failure.
func causeOf(cmds []redis.Cmder, err error) error {
	var first error
	for _, cmd := range cmds {
		switch cmdErr := cmd.Err(); {
		case cmdErr == nil, rediserr.Classify(context.Background(), cmdErr) == rediserr.NotFound:
		case redis.IsExecAbortError(cmdErr):
			if first == nil {
				first = cmdErr
			}
		default:
			return fmt.Errorf("%s: %w", cmd.Name(), cmdErr)
		}
	}
	if first != nil {
		return first
	}
	if rediserr.Classify(context.Background(), err) == rediserr.NotFound {
		return nil
	}
	return err
}
