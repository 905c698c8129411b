package interceptors

import (
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
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
