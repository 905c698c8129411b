package notifier

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fullEntry() *entry {
	return &entry{
		Event: Event{
			Kind: KindStatus, WorkflowID: "order-1", RunID: "0190-run", TaskID: "charge", Call: 3, ActivityID: "7",
			ActivityType: "Charge", Attempt: 2, Status: StatusWaiting, Previous: StatusFailed, Reason: "lock <held> & \"queued\"",
			Final: true, Time: time.Date(2026, 11, 23, 4, 5, 6, 789000, time.UTC),
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: json.RawMessage(`{"done":40}`),
		},
		Source: "SOURCE", Number: 42,
	}
}

// What stands here is what other programs read. It may grow, and not change.
func TestEntry_keeps_its_JSON_form(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		entry *entry
		want  string
	}{
		"with everything": {fullEntry(), `{"kind":"status","workflow_id":"order-1","run_id":"0190-run","task_id":"charge","call":3,` +
			`"activity_id":"7","activity_type":"Charge","attempt":2,"status":"WAITING","previous_status":"FAILED",` +
			`"reason":"lock <held> & \"queued\"","final":true,"time":"2026-11-23T04:05:06.000789Z",` +
			`"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{"done":40},"source":"SOURCE","number":42}`},
		"with little": {
			&entry{Event: Event{Kind: KindProgress, WorkflowID: "w", Time: time.Unix(0, 0).UTC()}},
			`{"kind":"progress","workflow_id":"w","time":"1970-01-01T00:00:00Z"}`,
		},
		"as a subscriber sees it": {
			&entry{Event: Event{Epoch: "17-x", ID: 18, Kind: KindGap, WorkflowID: "w", Reason: GapTrimmed, Snapshot: true, Time: time.Unix(0, 0).UTC()}},
			`{"epoch":"17-x","id":18,"kind":"gap","workflow_id":"w","reason":"log trimmed","snapshot":true,"time":"1970-01-01T00:00:00Z"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := test.entry.encode()
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestEntry_comes_back_from_JSON_as_it_was(t *testing.T) {
	t.Parallel()
	body, err := fullEntry().encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(body)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, fullEntry()) {
		t.Errorf("got %+v", got)
	}
}

func TestDecode_takes_nobody_elses_place_in_the_log(t *testing.T) {
	t.Parallel()
	got, err := decode(`{"epoch":"forged","id":9,"snapshot":true,"kind":"status","time":"2026-11-23T05:00:00+01:00","later_field":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != "" || got.ID != 0 || got.Snapshot || got.Time.Location() != time.UTC || got.Time.Hour() != 4 {
		t.Errorf("got %+v", got)
	}
	if _, err := decode("not ours"); err == nil || !strings.Contains(err.Error(), "decode event") {
		t.Errorf("got error %v", err)
	}
}
