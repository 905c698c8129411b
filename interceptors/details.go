package interceptors

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
)

// record is what one attempt leaves to the next. It goes as one more heartbeat
// detail behind the user's, who do not see it.
type record struct {
	// Attempts that ended before user code, because Redis was away or the lock
	// was held.
	Outages int32 `json:"outages,omitempty"`
	// Paused is the time that those attempts took, and the waits after them, and
	// holds.
	Paused time.Duration `json:"paused,omitempty"`
	// Attempt and Ended say which attempt ended so last, as Temporal counts them,
	// and when, in Unix nanoseconds of the server's clock.
	Attempt int32 `json:"attempt,omitempty"`
	Ended   int64 `json:"ended,omitempty"`
	// Hold is the attempt that waits for Redis now, Since when and Until when at
	// most, in Unix nanoseconds.
	Hold  int32 `json:"hold,omitempty"`
	Since int64 `json:"since,omitempty"`
	Until int64 `json:"until,omitempty"`
}

// goesOn notes that nobody waits.
func (r *record) goesOn() { r.Hold, r.Since, r.Until = 0, 0, 0 }

// recordKey marks the payload of a record in its metadata.
const recordKey = "temporal-redis-record"

func (r record) payload() converter.RawValue {
	data, _ := json.Marshal(r) // numbers only
	return converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON), recordKey: []byte("1")},
		Data:     data,
	})
}

// recordIn is the record in a payload; ok is false if it is the user's.
func recordIn(p *commonpb.Payload) (r record, ok bool) {
	if _, ok := p.GetMetadata()[recordKey]; !ok {
		return record{}, false
	}
	if json.Unmarshal(p.GetData(), &r) != nil || r.Outages < 0 || r.Paused < 0 {
		return record{}, true // ours, and worth nothing
	}
	return r, true
}

// Holding tells whether the heartbeat details of a pending activity, as the
// server has them, say that the given attempt waits for Redis, and since when, by its
// worker's clock (zero if a worker of an earlier release does not say). It is false
// where the host's codec encrypts them.
func Holding(details *commonpb.Payloads, attempt int32) (since time.Time, holds bool) {
	all := details.GetPayloads()
	if len(all) == 0 {
		return time.Time{}, false
	}
	r, _ := recordIn(all[len(all)-1])
	if r.Hold <= 0 || r.Hold != attempt || time.Now().UnixNano() >= r.Until {
		return time.Time{}, false
	}
	if r.Since > 0 {
		since = time.Unix(0, r.Since)
	}
	return since, true
}

// details are the heartbeat details of one attempt: those that the user's code
// left, and our record behind them.
type details struct {
	below interceptor.ActivityOutboundInterceptor // without us

	// records tells that a record goes along: the activity was scheduled with the host's
	// limits in its header, so the plugin is on all workers. Another one would take it
	// for a detail of the user's.
	records bool
	given   int // how many of the user's the attempt was given
	// waitCounted tells that what passed since the last attempt is in record.Paused.
	waitCounted bool
	outages     int32 // attempts before this one that were none of the user's

	mu      sync.Mutex
	entered bool  // user code was: heartbeats are its own
	along   bool  // its last heartbeat took our record along
	user    []any // the user's, undecoded, or as this attempt recorded them
	record  record

	// foreign details cannot be carried over: the host's data converter does not
	// know raw values. No heartbeat is then better than one that erases them.
	foreign atomic.Bool
}

// maxDetails is how many heartbeat details are carried over; the SDK gives no
// count.
const maxDetails = 64

// queued is how long a first attempt waits for a worker before that time is a
// pause rather than the user's: so long that Redis, or the workers, were away.
const queued = time.Second

// readDetails takes apart what earlier attempts left. Details that nobody needs
// are left alone.
func readDetails(ctx context.Context, below interceptor.ActivityOutboundInterceptor, info activity.Info, needed, records bool) *details {
	d := &details{below: below, records: records}
	if !needed {
		d.foreign.Store(true)
		return d
	}
	defer func() {
		if recover() != nil { // the data converter, at raw values
			d.foreign.Store(true)
		}
	}()
	if waited := info.StartedTime.Sub(info.ScheduledTime); info.Attempt == 1 && waited > queued && !info.ScheduledTime.IsZero() {
		d.record.Paused = waited
	}
	if !below.HasHeartbeatDetails(ctx) {
		return d
	}
	raw := make([]converter.RawValue, maxDetails)
	targets := make([]any, maxDetails)
	for i := range raw {
		targets[i] = &raw[i]
	}
	if err := below.GetHeartbeatDetails(ctx, targets...); err != nil {
		d.foreign.Store(true)
		return d
	}
	for _, r := range raw {
		if r.Payload() == nil {
			break
		}
		if found, ours := recordIn(r.Payload()); ours {
			found.Outages = min(found.Outages, max(info.Attempt-1, 0))
			found.goesOn()
			if found.Attempt == info.Attempt-1 { // nothing but waiting since
				found.Paused += max(info.StartedTime.Sub(time.Unix(0, found.Ended)), 0)
				d.waitCounted = true
			}
			found.Attempt, found.Ended = 0, 0
			d.record, d.outages = found, found.Outages
			continue
		}
		d.user = append(d.user, r)
	}
	d.given = len(d.user)
	d.foreign.Store(raw[0].Payload() == nil)
	return d
}

// beat sends a heartbeat with the user's last details and our record, before
// user code was entered. The server replaces the last details by those of each
// heartbeat.
func (d *details) beat(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.entered {
		d.send(ctx)
	}
}

// leaveTimeout bounds the last heartbeat of an attempt whose context has ended.
const leaveTimeout = 5 * time.Second

// leave sends the record of an attempt that is about to end and was none of the
// user's. Where the attempt's context has ended, with its worker, or its answer goes past
// the SDK, the SDK's heartbeats do not arrive: it is to be sent atOnce then.
func (d *details) leave(ctx context.Context, temporalClient client.Client, info activity.Info, atOnce bool, change func(*record)) {
	d.mu.Lock()
	change(&d.record)
	d.record.goesOn()
	if !atOnce {
		d.send(ctx)
	}
	d.mu.Unlock()
	if atOnce && temporalClient != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		_ = d.tell(ctx, temporalClient, info) // else the attempt counts as the user's
	}
}

// hold notes that the attempt waits for Redis, and tells it.
func (d *details) hold(ctx context.Context, attempt int32, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record.Hold, d.record.Since, d.record.Until = attempt, time.Now().UnixNano(), until.UnixNano()
	d.send(ctx)
}

// held notes that the wait is over, and how long it was.
func (d *details) held(ctx context.Context, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record.goesOn()
	d.record.Paused = plus(d.record.Paused, took)
	d.send(ctx)
}

// paused is the time that was none of the user's, up to now.
func (d *details) paused() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.record.Paused
}

// excuse adds to the time that was none of the user's, and says so at once: the attempt
// may end without a word.
func (d *details) excuse(ctx context.Context, waited time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if waited > 0 {
		d.record.Paused = plus(d.record.Paused, waited)
		d.send(ctx)
	}
}

// carried tells whether the user's code sent a heartbeat, with the record. It need not
// be sent again then, and must not: the values may not be by now what they were.
func (d *details) carried() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.along
}

// enter leaves heartbeats to the user, with a whole interval until the first one: some
// of it has passed if the attempt has waited.
func (d *details) enter(ctx context.Context, info activity.Info, waited time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := info.HeartbeatTimeout; t > 0 && waited > t/10 && !info.IsLocalActivity {
		d.send(ctx)
	}
	d.entered = true
}

func (d *details) isEntered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entered
}

// send is called with the mutex held. It is false where the data converter
// refused raw values, for which the SDK panics.
func (d *details) send(ctx context.Context) (sent bool) {
	if d.foreign.Load() {
		return false
	}
	defer func() {
		if !sent {
			_ = recover()
			d.foreign.Store(true)
		}
	}()
	d.below.RecordHeartbeat(ctx, d.all()...)
	return true
}

func (d *details) all() []any {
	if d.record == (record{}) || !d.records {
		return d.user
	}
	return append(slices.Clip(d.user), d.record.payload())
}

// keepAlive heartbeats until the returned function is called or user code is
// entered: reading a config and waiting for a lock take time of their own.
func (d *details) keepAlive(ctx context.Context, info activity.Info) (stop func()) {
	if info.HeartbeatTimeout <= 0 || info.IsLocalActivity {
		return func() {}
	}
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(max(info.HeartbeatTimeout/3, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.beat(ctx)
			case <-stopped:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped); <-done })
}

// carry sends the user's own heartbeat with our record behind it. It is false
// when there is no record, or it cannot be sent.
func (d *details) carry(ctx context.Context, values []any) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user = values
	if len(values) == 1 && values[0] == nil {
		d.user = nil // as the SDK takes it: no details
	}
	if d.record == (record{}) || !d.records {
		return false
	}
	sent := d.send(ctx)
	d.along = sent
	d.foreign.Store(false) // it may have been a value of the user's: the SDK will say
	return sent
}
