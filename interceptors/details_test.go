package interceptors

import (
	"context"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
)

func TestHoldingTellsSinceWhen(t *testing.T) {
	t.Parallel()
	since, later := time.Now().Add(-time.Minute), time.Now().Add(time.Minute).UnixNano()
	for name, test := range map[string]struct {
		record record
		since  time.Time
		holds  bool
	}{
		"it waits":                              {record: record{Hold: 2, Since: since.UnixNano(), Until: later}, since: since, holds: true},
		"a worker that does not say since when": {record: record{Hold: 2, Until: later}, holds: true},
		"the attempt before waited":             {record: record{Hold: 1, Since: since.UnixNano(), Until: later}},
		"its worker died while it waited":       {record: record{Hold: 2, Since: since.UnixNano(), Until: since.UnixNano()}},
		"nobody waits":                          {record: record{Outages: 1}},
	} {
		got, holds := Holding(&commonpb.Payloads{Payloads: []*commonpb.Payload{record{}.payload().Payload(), test.record.payload().Payload()}}, 2)
		if holds != test.holds || !got.Equal(test.since) {
			t.Errorf("%s: got %v, %v; want %v, %v", name, got, holds, test.since, test.holds)
		}
	}
	if _, holds := Holding(nil, 1); holds {
		t.Error("no details hold")
	}
}

// beats counts heartbeats.
type beats struct {
	interceptor.ActivityOutboundInterceptorBase
	n    int
	last []any
}

func (b *beats) RecordHeartbeat(_ context.Context, values ...any) { b.n, b.last = b.n+1, values }

// A worker without the plugin would take the record for a detail of the user's.
func TestRecordGoesAlongOnlyWhereThePluginIsOnAllWorkers(t *testing.T) {
	t.Parallel()
	for _, records := range []bool{false, true} {
		below := new(beats)
		d := &details{below: below, records: records, user: []any{"user's"}}
		want := 1
		if records {
			want = 2
		}
		d.hold(t.Context(), 1, time.Now().Add(time.Minute))
		if len(below.last) != want {
			t.Errorf("records %v: a hold sends %v", records, below.last)
		}
		if carried := d.carry(t.Context(), []any{"again"}); carried != records {
			t.Errorf("records %v: carried %v", records, carried)
		}
		if values := d.all(); len(values) != want || values[0] != "again" {
			t.Errorf("records %v: %v", records, values)
		}
	}
}

func TestUserCodeHasAWholeIntervalUntilItsFirstHeartbeat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		timeout, waited time.Duration
		want            int
	}{
		"it did not wait":        {timeout: 30 * time.Second, waited: time.Second},
		"it waited":              {timeout: 30 * time.Second, waited: 19 * time.Second, want: 1},
		"it needs no heartbeats": {waited: time.Hour},
	} {
		below := new(beats)
		d := &details{below: below}
		d.enter(t.Context(), activity.Info{HeartbeatTimeout: test.timeout}, test.waited)
		d.beat(t.Context()) // no more: they are the user's
		if below.n != test.want {
			t.Errorf("%s: %d heartbeats, want %d", name, below.n, test.want)
		}
	}
}
