package notifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// heardPublisher keeps what it is given.
type heardPublisher struct {
	mu   sync.Mutex
	told []string
}

func (p *heardPublisher) Publish(ev Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, fmt.Sprint(ev.TaskID, " ", ev.Status, string(ev.Data)))
	return nil
}

func (*heardPublisher) checkEvent(ev *Event) error { return ev.check(100) }

func (p *heardPublisher) since() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := p.told
	p.told = nil
	return told
}

func TestPace_holds_progress_back_and_tells_the_last(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := new(heardPublisher)
		p := Pace(next, time.Second)
		progress := func(task string, n int) Event {
			return Event{Kind: KindProgress, WorkflowID: "w", TaskID: task, Data: json.RawMessage(fmt.Sprint(n))}
		}
		want := func(what string, told ...string) {
			t.Helper()
			synctest.Wait()
			if got := next.since(); !slices.Equal(got, told) {
				t.Errorf("%s: it told %q; want %q", what, got, told)
			}
		}
		publish := func(ev Event) {
			t.Helper()
			if err := p.Publish(ev); err != nil {
				t.Error(err)
			}
		}
		for n := range 5 {
			publish(progress("a", n))
		}
		publish(progress("b", 7))
		want("the first at once, of each task", "a 0", "b 7")
		<-time.After(time.Second)
		want("the last when the interval is over", "a 4")
		<-time.After(time.Hour)
		want("nothing more")
		publish(progress("a", 5))
		publish(progress("a", 6))
		publish(Event{Kind: KindStatus, WorkflowID: "w", TaskID: "a", Status: StatusSuccess})
		want("before another event of its task", "a 5", "a 6", "a SUCCESS")
		publish(progress("b", 8))
		publish(progress("b", 9))
		p.Flush()
		want("at the end", "b 8", "b 9")
		publish(progress("c", 1))
		bad := progress("c", 2)
		bad.Data = json.RawMessage("{")
		if err := p.Publish(bad); !errors.Is(err, ErrInvalidEvent) {
			t.Errorf("what would be held back and is wrong gives %v", err)
		}
		<-time.After(time.Hour)
		want("and is not told", "c 1")
	})
}
