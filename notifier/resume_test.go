package notifier

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// testView is a log whose entries are numbers first..last, each a status of its
// own task, with the older tasks only in the snapshot.
func testView(t *testing.T, epoch string, older []string, first, last int) *view {
	t.Helper()
	v := &view{epoch: epoch, seq: int64(last), details: make(map[string]string)}
	at := time.Unix(0, 0).UTC()
	body := func(task string) (string, *entry) {
		at = at.Add(time.Second)
		e := &entry{Event: status("w", task, 1, StatusRunning)}
		e.Time = at
		b, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b, e
	}
	for _, task := range older {
		_, e := body(task)
		v.states = append(v.states, state{key: e.TaskKey(), score: scoreOf(&e.Event), event: e})
	}
	for id := first; id <= last; id++ {
		b, e := body(fmt.Sprint(id))
		v.bodies = append(v.bodies, b)
		v.states = append(v.states, state{key: e.TaskKey(), score: scoreOf(&e.Event), event: e})
	}
	return v
}

func TestCatchUpFrom_tells_what_is_missing_and_no_more(t *testing.T) {
	t.Parallel()
	const epoch = "100-x" // the first id ever was 101
	whole := testView(t, epoch, nil, 101, 104)
	trimmed := testView(t, epoch, []string{"old"}, 103, 104)
	for name, test := range map[string]struct {
		begin beginning
		from  position
		lost  bool
		view  *view
		want  []string // "task id", with a * for snapshots
		end   position
	}{
		"the state of each task, where nothing was known": {
			atSnapshot, position{}, false, trimmed, []string{"old 0*", "103 103*", "104 104*"}, position{epoch, 104},
		},
		"every entry, where all of the log was asked for": {
			atStart, position{}, false, trimmed, []string{"103 103", "104 104"}, position{epoch, 104},
		},
		"what follows a known event":        {atPosition, position{epoch, 102}, false, whole, []string{"103 103", "104 104"}, position{epoch, 104}},
		"nothing after the newest":          {atPosition, position{epoch, 104}, false, whole, nil, position{epoch, 104}},
		"what follows just before the log":  {atPosition, position{epoch, 102}, false, trimmed, []string{"103 103", "104 104"}, position{epoch, 104}},
		"what follows an event of any log":  {atPosition, position{"", 103}, false, whole, []string{"104 104"}, position{epoch, 104}},
		"everything, where the log was new": {atPosition, position{}, false, whole, []string{"101 101", "102 102", "103 103", "104 104"}, position{epoch, 104}},
		"a gap, where the log has been trimmed since": {
			atPosition, position{epoch, 101}, false, trimmed, []string{"gap log trimmed", "old 0*", "103 103", "104 104"}, position{epoch, 104},
		},
		"a gap, where the log was new and has been trimmed already": {
			atPosition, position{}, false, trimmed, []string{"gap log trimmed", "old 0*", "103 103", "104 104"}, position{epoch, 104},
		},
		"a gap, where the log is another": {
			atPosition, position{"9-y", 103}, false, trimmed, []string{"gap log restarted", "old 0*", "103 103", "104 104"}, position{epoch, 104},
		},
		"a gap, where the log ends before the position": {
			atPosition, position{epoch, 105}, false, trimmed, []string{"gap log restarted", "old 0*", "103 103", "104 104"}, position{epoch, 104},
		},
		"a gap, where the position is known to be void": {
			atPosition, position{epoch, 103}, true, trimmed, []string{"gap log restarted", "old 0*", "103 103", "104 104"}, position{epoch, 104},
		},
		"nothing, where there is no log": {atPosition, position{epoch, 103}, false, &view{}, nil, position{epoch, 103}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := catchUpFrom("w", test.begin, test.from, test.lost, test.view)
			var got []string
			for _, ev := range c.events {
				switch {
				case ev.Kind == KindGap:
					got = append(got, "gap "+ev.Reason)
				case ev.Snapshot:
					got = append(got, fmt.Sprint(ev.TaskID, " ", ev.ID, "*"))
				default:
					got = append(got, fmt.Sprint(ev.TaskID, " ", ev.ID))
				}
				if ev.Epoch != epoch {
					t.Errorf("an event has the epoch %q", ev.Epoch)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if c.end != test.end {
				t.Errorf("ends at %+v; want %+v", c.end, test.end)
			}
		})
	}
}

// What is published after a subscription to all began, and before it reads the log, is
// news.
func TestCatchUpSince_tells_what_came_since_as_news(t *testing.T) {
	t.Parallel()
	v := testView(t, "100-x", []string{"old"}, 101, 103) // 101 happened at 2 s
	append1 := func(at int, s Status) {
		e := &entry{Event: status("w", "102", 1, s)}
		e.Time = time.Unix(int64(at), 0)
		body, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		v.bodies, v.seq = append(v.bodies, body), v.seq+1
		for i := range v.states {
			if v.states[i].key == e.TaskKey() {
				v.states[i].score, v.states[i].event = scoreOf(&e.Event), e
			}
		}
	}
	append1(7, StatusWaiting)
	append1(8, StatusSuccess)
	for name, test := range map[string]struct {
		since int
		want  []string
	}{
		"all of it was there":        {9, []string{"old RUNNING*", "101 RUNNING*", "103 RUNNING*", "102 SUCCESS*"}},
		"two came since":             {6, []string{"old RUNNING*", "101 RUNNING*", "102 RUNNING*", "103 RUNNING*", "102 WAITING", "102 SUCCESS"}},
		"one did, of a task of then": {8, []string{"old RUNNING*", "101 RUNNING*", "103 RUNNING*", "102 WAITING*", "102 SUCCESS"}},
		"what is new is no state":    {3, []string{"old RUNNING*", "101 RUNNING*", "102 RUNNING", "103 RUNNING", "102 WAITING", "102 SUCCESS"}},
		"all of the log did":         {0, []string{"old RUNNING*", "101 RUNNING", "102 RUNNING", "103 RUNNING", "102 WAITING", "102 SUCCESS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := catchUpSince(time.Unix(int64(test.since), 0), v)
			var got []string
			for _, ev := range c.events {
				what := ev.TaskID + " " + string(ev.Status)
				if ev.Snapshot {
					what += "*"
				}
				got = append(got, what)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if want := (position{"100-x", 105}); c.end != want {
				t.Errorf("ends at %+v; want %+v", c.end, want)
			}
		})
	}
}

func TestView_sees_a_log_that_went_back(t *testing.T) {
	t.Parallel()
	v := &view{epoch: "e", seq: 12, bodies: []string{"ten", "eleven", "twelve"}}
	for name, test := range map[string]struct {
		id   int64
		body string
		want bool
	}{
		"not when it is where it was":        {12, "twelve", false},
		"not when it went on":                {10, "ten", false},
		"not when the place is out of sight": {9, "nine", false},
		"when its end is missing":            {13, "thirteen", true},
		"when other entries took the place":  {11, "another", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := v.wentBack(test.id, test.body); got != test.want {
				t.Errorf("got %v; want %v", got, test.want)
			}
		})
	}
}

func TestHistory_knows_repeats(t *testing.T) {
	t.Parallel()
	from := func(source string, number int64, ev Event) *entry {
		return &entry{Event: ev, Source: source, Number: number}
	}
	running, done := status("w", "a", 1, StatusRunning), status("w", "a", 1, StatusSuccess)
	because := running
	because.Reason = "cancellation requested"
	h := newHistory()
	for i, step := range []struct {
		entry    *entry
		news     bool
		previous Status
	}{
		{from("A", 1, running), true, ""},
		{from("A", 1, running), false, ""},                            // appended twice
		{from("B", 7, running), false, ""},                            // said by another as well
		{from("B", 8, because), true, StatusRunning},                  // for another reason
		{from("A", 2, progress("w", "a")), true, ""},                  // each progress is news
		{from("A", 3, progress("w", "a")), true, ""},                  //
		{from("A", 2, progress("w", "a")), false, ""},                 // unless it is the same
		{from("A", 4, done), true, StatusRunning},                     //
		{from("C", 1, running), true, ""},                             // late: news, but no transition
		{from("C", 2, done), false, ""},                               // still the state
		{from("", 0, Event{Kind: KindGap}), true, ""},                 // gaps are always told
		{from("", 0, Event{Kind: KindGap}), true, ""},                 //
		{from("A", 1, status("w", "b", 1, StatusRunning)), false, ""}, // an old append that came late
	} {
		if news := h.admit(step.entry); news != step.news || step.entry.Previous != step.previous {
			t.Errorf("step %d: news %v, previous %q; want %v, %q", i, news, step.entry.Previous, step.news, step.previous)
		}
	}
}
