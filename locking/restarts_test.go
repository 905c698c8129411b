package locking

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestUptime(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]time.Duration{
		"# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:42\r\nuptime_in_days:0\r\n": 42 * time.Second,
		"uptime_in_seconds:0":        0,
		"# Server\r\n":               -1,
		"uptime_in_seconds:soon\r\n": -1,
		"":                           -1,
	} {
		got, ok := uptime(info)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q gives %v", info, got)
		}
	}
}

// Redis cuts seconds off twice: a process that says it is up for 42 may be for 41 and a
// bit, and is taken for that, so that no quarantine ends early.
func TestProcess_was_started_no_earlier_than_it_is_taken_for(t *testing.T) {
	t.Parallel()
	client, _ := saying(t, "# Server\r\nuptime_in_seconds:42\r\n", nil)
	asked := time.Now()
	p, err := processOf(t.Context(), client)
	if least := asked.Add(-41 * time.Second); err != nil || p.since.Before(least) {
		t.Errorf("it was started at %v, %v; want %v or later", p.since, err, least)
	}
}

// Since when a process has been the same is asked anew after each connection.
func TestRestarts_tell_since_when_a_process_is_the_same(t *testing.T) {
	t.Parallel()
	const first, second = "run_id:a\r\nmaster_replid:b\r\n", "run_id:a\r\nmaster_replid:c\r\n"
	denied := replyError("NOPERM this user has no permissions to run the 'info' command")
	for name, test := range map[string]struct {
		info    string
		err     error
		same    bool // steady from the first answer on
		unknown bool
		fails   bool
	}{
		"the same":                       {info: first, same: true},
		"another process":                {info: "run_id:x\r\nmaster_replid:b\r\n"},
		"one that became a master":       {info: second},
		"one whose user may not ask":     {err: denied, unknown: true},
		"one that does not answer":       {err: context.DeadlineExceeded, fails: true},
		"one that knows no such command": {err: replyError("ERR unknown command 'INFO'")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, said := saying(t, first, nil)
			r := new(restarts)
			_, began, err := r.ask(t.Context(), client)
			if err != nil || began.IsZero() {
				t.Fatalf("steady since %v, %v", began, err)
			}
			said.info, said.err = test.info, test.err
			if _, steady, err := r.ask(t.Context(), client); err != nil || !steady.Equal(began) || said.asked != 1 {
				t.Fatalf("without a new connection: steady since %v, %v, asked %d times", steady, err, said.asked)
			}
			r.dials.Add(1)
			_, steady, err := r.ask(t.Context(), client)
			if (err != nil) != test.fails {
				t.Fatalf("got %v", err)
			}
			if test.unknown || test.fails {
				if !steady.IsZero() {
					t.Errorf("steady since %v; want that it cannot be told", steady)
				}
			} else if same := steady.Equal(began); same != test.same || steady.Before(began) {
				t.Errorf("steady since %v, at first since %v", steady, began)
			}
			said.info, said.err = first, nil
			r.dials.Add(1)
			_, steady, err = r.ask(t.Context(), client)
			if want := test.same || test.fails; err != nil || steady.Equal(began) != want {
				t.Errorf("after that: steady since %v, %v, at first since %v", steady, err, began)
			}
		})
	}
}

// Nobody is refused a lock because a master does not say who it is, where there is no
// quarantine; but whom it was granted before is not known then.
func TestNode_does_not_know_the_grant_before_of_a_master_that_does_not_say_who_it_is(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		told bool
	}{
		"its user may not ask":     {err: replyError("NOPERM this user has no permissions to run the 'info' command")},
		"it does not answer":       {err: context.DeadlineExceeded},
		"it knows no such command": {err: replyError("ERR unknown command 'INFO'"), told: true},
		"it says so":               {told: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.client.AddHook(&sayings{info: "run_id:a", err: test.err})
			first := f.grant(t, newToken())
			f.give(t, first)
			v := f.grant(t, newToken())
			if told := v.previous == first.lock.Token(); told != test.told || (!told && v.previous != "") {
				t.Errorf("the grant before is %q", v.previous)
			}
			if v.steady.IsZero() == test.told {
				t.Errorf("it is the same since %v", v.steady)
			}
		})
	}
}

// sayings is a hook that answers INFO.
type sayings struct {
	info  string
	err   error
	asked int
}

func saying(t *testing.T, info string, err error) (*redis.Client, *sayings) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	s := &sayings{info: info, err: err}
	client.AddHook(s)
	return client, s
}

func (*sayings) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*sayings) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (s *sayings) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "info" {
			return next(ctx, cmds)
		}
		s.asked++
		for _, cmd := range cmds {
			if info, ok := cmd.(*redis.StringCmd); ok && s.err == nil {
				info.SetVal(s.info)
			}
			cmd.SetErr(s.err)
		}
		return s.err
	}
}

func TestLanes_keep_order_by_key(t *testing.T) {
	t.Parallel()
	var l lanes
	first, second, other := l.enter("a"), l.enter("a"), l.enter("b")
	first.wait()
	other.wait() // another key waits for nobody
	passed := make(chan struct{})
	go func() {
		second.wait()
		close(passed)
	}()
	select {
	case <-passed:
		t.Fatal("the second did not wait for the first")
	case <-time.After(10 * time.Millisecond):
	}
	first.leave()
	<-passed
	second.leave()
	other.leave()
	if len(l.last) != 0 {
		t.Errorf("%d lanes are left", len(l.last))
	}
}

func TestRest(t *testing.T) {
	t.Parallel()
	r := rest{began: time.Now()}
	if r.now() {
		t.Error("a master that was not asked is left alone")
	}
	r.note(errOutage)
	if !r.now() {
		t.Error("a master that did not answer is asked")
	}
	r.until.Store(int64(time.Since(r.began)))
	if r.now() || !r.now() {
		t.Error("not just one finds out whether it is back")
	}
	r.note(errHeld)
	if r.now() {
		t.Error("a master that answered is left alone")
	}
}
