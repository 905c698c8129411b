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
func TestStartOf_is_no_earlier_than_it_was(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(saysInfo("# Server\r\nuptime_in_seconds:42\r\n"))
	asked := time.Now()
	since, err := startOf(t.Context(), client)
	if least := asked.Add(-41 * time.Second); err != nil || since.Before(least) {
		t.Errorf("it was started at %v, %v; want %v or later", since, err, least)
	}
}

// saysInfo is a hook that answers INFO.
type saysInfo string

func (saysInfo) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s saysInfo) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if info, ok := cmd.(*redis.StringCmd); ok {
			info.SetVal(string(s))
		}
		return nil
	}
}

func (saysInfo) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
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
