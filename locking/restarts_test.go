package locking

import (
	"context"
	"strconv"
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
		"the same":                        {info: first, same: true},
		"another process":                 {info: "run_id:x\r\nmaster_replid:b\r\n"},
		"one that became a master":        {info: second},
		"one whose user may not ask":      {err: denied, unknown: true},
		"one that does not answer":        {err: context.DeadlineExceeded, fails: true},
		"one that knows no such command":  {err: replyError("ERR unknown command 'INFO'"), unknown: true},
		"one that does not say who it is": {info: "uptime_in_seconds:42\r\n", unknown: true},
		"one that is no master any more":  {info: first + "role:slave\r\n", unknown: true},
		"the embedded one":                {err: replyError("ERR section (server) is not supported")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, said := saying(t, first, nil)
			r := new(restarts)
			_, began, err := r.ask(t.Context(), client, false)
			if err != nil || began.IsZero() {
				t.Fatalf("steady since %v, %v", began, err)
			}
			said.info, said.err = test.info, test.err
			if _, steady, err := r.ask(t.Context(), client, false); err != nil || !steady.Equal(began) || said.asked != 1 {
				t.Fatalf("without a new connection: steady since %v, %v, asked %d times", steady, err, said.asked)
			}
			r.dials.Add(1)
			_, steady, err := r.ask(t.Context(), client, false)
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
			_, steady, err = r.ask(t.Context(), client, false)
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
		"it knows no such command": {err: replyError("ERR unknown command 'INFO'")},
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

// A process that has become a master anew has another history, and its connections stay:
// so of a grant that was lost it is asked again.
func TestNode_asks_again_who_a_master_is_when_a_lost_grant_was_the_one_before(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	said := &sayings{info: "run_id:a\r\nmaster_replid:b\r\n"}
	f.client.AddHook(said)
	f.losses = new(losses)
	first := f.grant(t, newToken())
	f.give(t, first)
	said.info = "run_id:a\r\nmaster_replid:c\r\n"
	second := f.grant(t, newToken())
	if said.asked != 1 || !second.steady.Equal(first.steady) {
		t.Fatalf("it was asked %d times; want once, or each grant costs a question", said.asked)
	}
	f.give(t, second)
	f.losses.add(second.lock.Token())
	third := f.grant(t, newToken())
	if said.asked != 2 || !third.steady.After(second.steady) || third.previous != second.lock.Token() {
		t.Errorf("it was asked %d times, and is the same since %v; at first %v", said.asked, third.steady, first.steady)
	}
	f.give(t, third)
	said.info += "role:slave\r\n"
	f.losses.add(third.lock.Token())
	if fourth := f.grant(t, newToken()); fourth.previous != "" {
		t.Errorf("one that is no master says that the grant before was %q", fourth.previous)
	}
}

func TestLosses_remembers_the_last(t *testing.T) {
	t.Parallel()
	var l losses
	for n := range lossesKept + 1 {
		l.add(strconv.Itoa(n))
	}
	if l.has("0") || !l.has("1") || !l.has(strconv.Itoa(lossesKept)) || l.has("") || len(l.tokens) != lossesKept || len(l.order) != lossesKept {
		t.Errorf("%d tokens, %d in order", len(l.tokens), len(l.order))
	}
	if none := (*losses)(nil); none.has("1") {
		t.Error("nothing has something")
	}
}

// For how long it is up is known also of one who may not tell all.
func TestProcess_tells_its_age_if_its_history_is_denied(t *testing.T) {
	t.Parallel()
	client, said := saying(t, "uptime_in_seconds:42\r\n", nil)
	said.denied = replyError("NOPERM this user has no permissions to run the 'info' command")
	if p, err := processOf(t.Context(), client); err != nil || p.since.IsZero() || !p.mute {
		t.Errorf("it says %+v, %v", p, err)
	}
}

// sayings is a hook that answers INFO.
type sayings struct {
	denied error // of the second section
	info   string
	err    error
	asked  int
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
		if s.denied != nil {
			cmds[1].SetErr(s.denied)
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
