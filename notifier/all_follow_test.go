package notifier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// briefly is a hub that soon stops following what ended, and a subscription to all that
// knows of new events by bells only, or by nothing.
func briefly(t *testing.T, bells bool) (*BackgroundPublisher, *All) {
	t.Helper()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{CheckEvery: time.Hour})
	h.lingering = 50 * time.Millisecond
	h.options.Sharded = !bells // so that it does not listen to the pattern
	mustPublish(t, p, status("w", "", 0, StatusRunning))
	mustFlush(t, p)
	eventually(t, "it is listed", func() bool { return len(active(t, h, 10)) == 1 })
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ev := nextOfAll(t, all); !ev.Snapshot || ev.Status != StatusRunning {
		t.Fatalf("it begins with %+v", ev)
	}
	return p, all
}

func run(id string, s Status, end bool) Event {
	ev := status("w", "", 0, s)
	ev.RunID, ev.Final = id, end
	return ev
}

// whatComes are the next n events, as "run STATUS".
func whatComes(t *testing.T, all *All, n int) (got []string) {
	t.Helper()
	for range n {
		ev := nextOfAll(t, all)
		what := ev.RunID + " " + string(ev.Status)
		switch {
		case ev.Kind == KindGap:
			what = "gap " + ev.Reason
		case ev.Snapshot:
			what += " of a snapshot"
		}
		got = append(got, what)
	}
	return got
}

// An id that is used again goes on where it was left: nothing is told twice, and nothing
// that came since is told as a state only.
func TestSubscribeAll_goes_on_where_it_left_an_id(t *testing.T) {
	t.Parallel()
	p, all := briefly(t, true)
	mustPublish(t, p, run("r", StatusSuccess, true))
	expect(t, whatComes(t, all, 1), []string{"r SUCCESS"})
	for n := range 3 {
		eventually(t, "it is left", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.following) == 0
		})
		id := fmt.Sprint("again ", n)
		mustPublish(t, p, run(id, StatusRunning, false), run(id, StatusFailed, true))
		expect(t, whatComes(t, all, 2), []string{id + " RUNNING", id + " FAILED"})
	}
}

// What is published in the moment in which an id is left has a bell that nobody hears.
func TestSubscribeAll_hears_of_what_came_while_it_left_an_id(t *testing.T) {
	t.Parallel()
	p, all := briefly(t, false)
	leaving := func(meanwhile func()) {
		all.mu.Lock() // without it, it cannot leave
		defer all.mu.Unlock()
		mustPublish(t, p, run("r", StatusSuccess, true))
		expect(t, whatComes(t, all, 1), []string{"r SUCCESS"})
		eventually(t, "it listens no more", func() bool {
			all.hub.mu.Lock()
			defer all.hub.mu.Unlock()
			return len(all.hub.feeds) == 0
		})
		meanwhile()
	}
	leaving(func() {
		mustPublish(t, p, run("again", StatusRunning, false))
		mustFlush(t, p)
	})
	expect(t, whatComes(t, all, 1), []string{"again RUNNING"})
}

// A workflow whose end nobody published stays listed as active. Its end, which the source
// told, is told once.
func TestSubscribeAll_tells_the_end_that_only_the_source_knows_once(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{CheckEvery: time.Hour, StatusEvery: 10 * time.Millisecond})
	h.lingering = 100 * time.Millisecond
	mustPublish(t, p, status("w", "", 0, StatusRunning))
	mustFlush(t, p)
	eventually(t, "it is listed", func() bool { return len(active(t, h, 10)) == 1 })
	source := new(oracle)
	source.say(final("w", "", StatusFailed))
	all, err := h.SubscribeAll(t.Context(), WithStatusSource(source))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, whatComes(t, all, 2), []string{"r RUNNING of a snapshot", "r FAILED"})
	for range 3 {
		eventually(t, "it is left", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			return len(all.following) == 0
		})
		all.lookAgain()
		eventually(t, "the list is read", func() bool { return !all.looks.Load() })
	}
	source.say()
	mustPublish(t, p, status("other", "", 0, StatusRunning))
	if ev := nextOfAll(t, all); ev.WorkflowID != "other" {
		t.Errorf("it tells %+v again", ev)
	}
}

// A run that was reset says nothing of itself at first, only of its tasks. Its end, which
// only the source may know, is still to come.
func TestSubscribeAll_follows_a_run_of_which_it_hears_by_its_tasks_only(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{CheckEvery: time.Hour})
	h.lingering, h.idling = 50*time.Millisecond, 50*time.Millisecond
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := func(over bool) {
		t.Helper()
		eventually(t, "it is left", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			at, known := all.left["w"]
			return known && len(all.following) == 0 && at.over == over
		})
	}
	mustPublish(t, p, run("one", StatusRunning, false), run("one", StatusFailed, true))
	expect(t, whatComes(t, all, 2), []string{"one RUNNING", "one FAILED"})
	left(true)
	task := status("w", "t", 1, StatusRunning)
	task.RunID = "two"
	mustPublish(t, p, task)
	expect(t, whatComes(t, all, 1), []string{"two RUNNING"})
	left(false)
}

func TestFailures_are_over_when_all_logs_are_read_again(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancel(t.Context())
	one, two := &feed{ctx: t.Context()}, &feed{ctx: ctx}
	var f failures
	for i, step := range []struct {
		got, want bool
	}{
		{f.forget(one), false},
		{f.note(one), true},
		{f.note(two), false},
		{f.note(one), false},
		{f.forget(two), false},
		{f.forget(one), true},
	} {
		if step.got != step.want {
			t.Errorf("step %d: %v", i, step.got)
		}
	}
	f.note(two)
	if !f.any() {
		t.Error("a log is not read")
	}
	end()
	if f.forget(two); f.note(two) || f.any() {
		t.Error("a feed that ended is a failure")
	}
}

func TestAll_leave_remembers_where(t *testing.T) {
	t.Parallel()
	at, before := leftAt{position: position{"e", 7}}, leftAt{position: position{"e", 3}, over: true}
	full := make(map[string]leftAt, maxLeft)
	for n := range maxLeft {
		full[fmt.Sprint(n)] = before
	}
	far := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		left    map[string]leftAt
		foreign map[string]time.Time
		at      leftAt
		want    map[string]leftAt
		ignored []string
	}{
		"the first":                    {nil, nil, at, map[string]leftAt{"w": at}, nil},
		"the next":                     {map[string]leftAt{"v": before}, nil, at, map[string]leftAt{"v": before, "w": at}, nil},
		"again":                        {map[string]leftAt{"w": before}, nil, at, map[string]leftAt{"w": at}, nil},
		"too many":                     {full, nil, at, map[string]leftAt{"w": at}, nil},
		"nothing was in its log":       {map[string]leftAt{"v": before}, nil, leftAt{}, map[string]leftAt{"v": before}, []string{"w"}},
		"only the source had its end":  {nil, nil, leftAt{over: true}, map[string]leftAt{"w": {over: true}}, nil},
		"now there is something in it": {nil, map[string]time.Time{"w": far, "x": far}, at, map[string]leftAt{"w": at}, []string{"x"}},
		"still there is nothing in it": {nil, map[string]time.Time{"w": far, "x": far}, leftAt{}, map[string]leftAt{}, []string{"w", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &All{
				hub: &Hub{idling: time.Hour}, following: map[string]struct{}{"w": {}, "v": {}},
				left: make(map[string]leftAt), foreign: make(map[string]time.Time),
			}
			maps.Copy(a.left, test.left)
			maps.Copy(a.foreign, test.foreign)
			a.leave("w", test.at)
			if !maps.Equal(a.left, test.want) {
				t.Errorf("it remembers %v; want %v", a.left, test.want)
			}
			if got := slices.Sorted(maps.Keys(a.foreign)); !slices.Equal(got, test.ignored) {
				t.Errorf("it leaves %q alone; want %q", got, test.ignored)
			}
			if len(a.following) != 1 {
				t.Errorf("it follows %v", a.following)
			}
		})
	}
}

// Only what a subscription would tell brings an id back: else it would come back for ever.
func TestAll_unheard_is_what_there_is_to_tell(t *testing.T) {
	t.Parallel()
	_, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	h := openHub(t, client, SubscriberOptions{})
	first, err := p.Append(t.Context(), status("w", "", 0, StatusRunning))
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Append(t.Context(), status("w", "a", 1, StatusRunning))
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.log.read(t.Context(), "w", 0, false)
	if err != nil {
		t.Fatal(err)
	}
	// A publisher that lost the reply may send its event again.
	if err := client.RPush(t.Context(), eventKeys(t, "repeats").Log, v.bodies[0], v.bodies[1], v.bodies[1]).Err(); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]any{eventKeys(t, "repeats").Seq: second + 1, eventKeys(t, "repeats").Epoch: v.epoch} {
		if err := client.Set(t.Context(), key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	early, late := time.UnixMicro(first-1), time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		id    string
		at    position
		began time.Time
		want  bool
	}{
		"all was told":                              {"w", position{v.epoch, second}, early, false},
		"one was not":                               {"w", position{v.epoch, first}, early, true},
		"nothing was, of a log that began since":    {"w", position{}, early, true},
		"nothing was, of one that was there before": {"w", position{}, late, false},
		"the log is another":                        {"w", position{"1-other", second}, early, true},
		"there is no log":                           {"none", position{}, early, false},
		"the log is gone":                           {"none", position{v.epoch, second}, early, false},
		"a repeat":                                  {"repeats", position{v.epoch, second}, early, false},
		"a repeat, and before it what was not told": {"repeats", position{v.epoch, first}, early, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &All{hub: h, ctx: t.Context(), began: test.began}
			if got := a.unheard(test.id, test.at); got != test.want {
				t.Errorf("it says %v", got)
			}
		})
	}
}

// What is published once SubscribeAll has returned is news, however late the log is read.
func TestSubscribeAll_tells_what_comes_before_it_reads_as_news(t *testing.T) {
	t.Parallel()
	server, client := embedded(t)
	p := openPublisher(t, client, PublisherOptions{})
	mustPublish(t, p, status("w", "", 0, StatusRunning), status("w", "a", 1, StatusRunning))
	mustFlush(t, p)
	slow := slowReader{make(chan struct{})}
	reader := clientOf(t, server)
	reader.AddHook(slow)
	h := openHub(t, reader, SubscriberOptions{Timeout: patience})
	eventually(t, "it is listed", func() bool { return len(active(t, h, 10)) == 1 })
	all, err := h.SubscribeAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, status("w", "a", 1, StatusWaiting), status("w", "a", 1, StatusSuccess), run("r", StatusSuccess, true))
	mustFlush(t, p)
	close(slow.now)
	expect(t, whatComes(t, all, 5), []string{"r RUNNING of a snapshot", "r RUNNING of a snapshot", "r WAITING", "r SUCCESS", "r SUCCESS"})
}

// slowReader has logs read only from some moment on.
type slowReader struct{ now chan struct{} }

func (slowReader) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (slowReader) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r slowReader) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "lrange" }) {
			<-r.now
		}
		return next(ctx, cmds)
	}
}
