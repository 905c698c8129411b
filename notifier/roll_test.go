package notifier

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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
	begins, task, runs, ends := status("w", "task", 1, StatusRunning), status("w", "task", 1, StatusSuccess), status("w", "", 0, StatusRunning), final("w", "", StatusFailed)
	for name, test := range map[string]struct {
		before  []record // each was written
		after   time.Duration
		records []record
		want    map[string]bool
	}{
		"a task":                               {records: []record{recordOf(task, "a")}, want: map[string]bool{"w": true}},
		"another":                              {before: []record{recordOf(task, "a")}, records: []record{recordOf(task, "a")}},
		"after a while":                        {before: []record{recordOf(task, "a")}, after: every, records: []record{recordOf(task, "a")}, want: map[string]bool{"w": true}},
		"the end":                              {before: []record{recordOf(runs, "a")}, records: []record{recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"the end alone":                        {records: []record{recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"all at once":                          {records: []record{recordOf(runs, "a"), recordOf(task, "a"), recordOf(ends, "a")}, want: map[string]bool{"w": false}},
		"the end once more":                    {before: []record{recordOf(ends, "a")}, records: []record{recordOf(ends, "a")}},
		"late":                                 {before: []record{recordOf(ends, "a")}, after: 2 * every, records: []record{recordOf(task, "a")}},
		"the next run":                         {before: []record{recordOf(ends, "a")}, records: []record{recordOf(runs, "b")}, want: map[string]bool{"w": true}},
		"a reset run, which says not":          {before: []record{recordOf(runs, "a"), recordOf(ends, "a")}, records: []record{recordOf(begins, "b")}, want: map[string]bool{"w": true}},
		"it goes on":                           {before: []record{recordOf(ends, "a"), recordOf(begins, "b")}, records: []record{recordOf(task, "b")}},
		"late, of a run that was not heard of": {before: []record{recordOf(ends, "b")}, records: []record{recordOf(task, "a")}},
		"a run that begins and ends at once":   {before: []record{recordOf(ends, "a")}, records: []record{recordOf(runs, "b"), recordOf(ends, "b")}, want: map[string]bool{"w": false}},
		"late, after the next run": {
			before: []record{recordOf(runs, "a"), recordOf(runs, "b"), recordOf(ends, "b")}, records: []record{recordOf(task, "a")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoll()
			for _, rec := range test.before {
				r.take("w", []record{rec}, begun, every)
				r.end(r.begin(), nil, true)
			}
			r.take("w", test.records, begun.Add(test.after), every)
			if due := areActive(r.begin()); !maps.Equal(due, test.want) {
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
	r.end(due, errors.New("away"), true)
	due = r.begin()
	if got, want := areActive(due), map[string]bool{"goes on": true, "ends": false}; !maps.Equal(got, want) {
		t.Errorf("to be noted: %v, want %v", got, want)
	}
	if !due["goes on"].late || due["ends"].late {
		t.Errorf("it does not know what is late: %v", due)
	}
	r.end(due, errors.New("wrong type"), false)
	if due := r.begin(); due != nil {
		t.Errorf("what cannot be noted is to be noted: %v", due)
	}
	r.take("goes on", []record{recordOf(status("goes on", "task", 1, StatusRunning), "r")}, time.Now(), time.Hour)
	if due := r.begin(); !due["goes on"].active {
		t.Error("what was not noted is not noted with the next word")
	}
}

func areActive(due map[string]listing) map[string]bool {
	are := make(map[string]bool)
	for id, l := range due {
		are[id] = l.active
	}
	return are
}

// What could not be noted at once does not undo what others have noted since.
func TestEnlist_leaves_what_is_newer(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	h := openHub(t, client, SubscriberOptions{})
	log := h.log
	log.retention = time.Hour
	then, now := time.Now().Add(-time.Minute), time.Now()
	must := func(due map[string]listing) {
		t.Helper()
		if err := log.enlist(t.Context(), due); err != nil {
			t.Fatal(err)
		}
	}
	must(map[string]listing{"begun again": {active: true, at: now}, "ended since": {at: now}, "begun": {active: true, at: then.Add(-time.Second)}})
	must(map[string]listing{
		"begun again": {at: then, late: true}, "ended since": {active: true, at: then, late: true},
		"begun": {at: then, late: true}, "new": {active: true, at: then, late: true},
	})
	if ids := active(t, h, 10); !slices.Equal(ids, []string{"begun again", "new"}) {
		t.Errorf("active are %q", ids)
	}
	ended, err := server.ZMembers(log.space.Ended())
	if err != nil || !slices.Equal(ended, []string{"begun", "ended since"}) {
		t.Errorf("ended have %q, %v", ended, err)
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
