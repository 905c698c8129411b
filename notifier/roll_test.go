package notifier

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

func recordOf(ev Event, run string) record {
	ev.RunID = run
	return record{event: &ev}
}

func TestRoll_notes_what_begins_and_ends(t *testing.T) {
	t.Parallel()
	const every = time.Hour
	begun := time.Now()
	task, runs, ends := status("w", "task", 1, StatusSuccess), status("w", "", 0, StatusRunning), final("w", "", StatusFailed)
	for name, test := range map[string]struct {
		before  []record // each was written
		after   time.Duration
		records []record
		want    map[string]bool
	}{
		"a task":                      {records: []record{recordOf(task, "a")}, want: map[string]bool{"w": true}},
		"another":                     {before: []record{recordOf(task, "a")}, records: []record{recordOf(task, "a")}},
		"after a while":               {before: []record{recordOf(task, "a")}, after: every, records: []record{recordOf(task, "a")}, want: map[string]bool{"w": true}},
		"the end":                     {before: []record{recordOf(runs, "a")}, records: []record{recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"the end alone":               {records: []record{recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"all at once":                 {records: []record{recordOf(runs, "a"), recordOf(task, "a"), recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"the end once more":           {before: []record{recordOf(ends, "a")}, records: []record{recordOf(ends, "a")}},
		"late":                        {before: []record{recordOf(ends, "a")}, after: 2 * every, records: []record{recordOf(task, "a")}},
		"the next run":                {before: []record{recordOf(ends, "a")}, records: []record{recordOf(runs, "b")}, want: map[string]bool{"w": true}},
		"a reset run, which says not": {before: []record{recordOf(runs, "a"), recordOf(ends, "a")}, records: []record{recordOf(task, "b")}, want: map[string]bool{"w": true}},
		"it goes on":                  {before: []record{recordOf(ends, "a"), recordOf(task, "b")}, records: []record{recordOf(task, "b")}},
		"late, after the next run": {
			before: []record{recordOf(runs, "a"), recordOf(runs, "b"), recordOf(ends, "b")}, records: []record{recordOf(task, "a")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoll()
			for _, rec := range test.before {
				r.take("w", []record{rec}, begun, every)
				r.end(r.begin(), nil)
			}
			r.take("w", test.records, begun.Add(test.after), every)
			if due := r.begin(); !maps.Equal(due, test.want) {
				t.Errorf("to be noted: %v, want %v", due, test.want)
			}
		})
	}
}

func TestRoll_notes_later_what_could_not_be(t *testing.T) {
	t.Parallel()
	r := newRoll()
	for _, id := range []string{"goes on", "ends"} {
		r.take(id, []record{recordOf(status(id, "", 0, StatusRunning), "r")}, time.Now(), time.Hour)
	}
	due := r.begin()
	r.take("ends", []record{recordOf(final("ends", "", StatusSuccess), "r")}, time.Now(), time.Hour)
	r.end(due, errors.New("away"))
	if due, want := r.begin(), map[string]bool{"goes on": true, "ends": false}; !maps.Equal(due, want) {
		t.Errorf("to be noted: %v, want %v", due, want)
	}
}

// The list of what is active has a slot of its own, whose master may hang alone.
func TestPublisher_publishes_while_the_list_of_the_active_is_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		s.unlisted = true
		p := testPublisher(t, s, PublisherOptions{Concurrency: 1})
		want := make(map[string]bool)
		for n := range 20 {
			id := fmt.Sprint("w", n)
			want[id] = n%2 == 0
			mustPublish(t, p, status(id, "", 0, StatusRunning))
			synctest.Wait() // no time passes
			expect(t, s.told(t, id), []string{" RUNNING"})
			if n%2 == 1 {
				mustPublish(t, p, final(id, "", StatusSuccess))
			}
		}
		synctest.Wait()
		s.set(func() { s.unlisted = false })
		<-time.After(p.options.Timeout + time.Second) // virtual
		synctest.Wait()
		s.set(func() {
			if !maps.Equal(s.listed, want) {
				t.Errorf("noted: %v", s.listed)
			}
		})
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFlush_waits_for_the_list_of_the_active_if_that_helps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		for n := range 50 {
			id := fmt.Sprint("w", n)
			mustPublish(t, p, status(id, "", 0, StatusRunning))
			mustFlush(t, p)
			s.set(func() {
				if !s.listed[id] {
					t.Errorf("%s is not noted", id)
				}
			})
		}
		s.set(func() { s.unlisted = true })
		mustPublish(t, p, status("x", "", 0, StatusRunning))
		began := time.Now()
		mustFlush(t, p)
		mustFlush(t, p)
		if took := time.Since(began); took > p.options.Timeout {
			t.Errorf("it waited %v", took)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
