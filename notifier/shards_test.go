package notifier

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// sharded is a sink with a shard that does not answer, another that does, and many
// workflow ids on the first.
func sharded(t *testing.T) (s *testSink, p *BackgroundPublisher, many []string) {
	t.Helper()
	s = newTestSink()
	s.owners, s.away = map[string]string{"well": "b"}, map[string]bool{"a": true}
	for n := range 100 {
		id := fmt.Sprint("w", n)
		many = append(many, id)
		s.owners[id] = "a"
	}
	p = testPublisher(t, s, PublisherOptions{})
	for _, id := range many {
		mustPublish(t, p, status(id, "0", 1, StatusRunning))
	}
	return s, p, many
}

func TestPublisher_publishes_to_shards_beside_one_that_is_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p, many := sharded(t)
		<-time.After(p.options.Timeout) // virtual; so long the first appends hold the senders
		synctest.Wait()
		var want []string
		for n := range 100 {
			mustPublish(t, p, status("well", fmt.Sprint(n), 1, StatusRunning), status(many[n], "1", 1, StatusRunning))
			want = append(want, fmt.Sprint(n, " RUNNING"))
			synctest.Wait() // no time passes
			expect(t, s.told(t, "well"), want)
			<-time.After(77 * time.Millisecond)
		}
		if n := len(s.appends); n > len(want)+p.options.Concurrency {
			t.Errorf("a shard that may only be slow got %d appends", n-len(want))
		}
		back := time.Now()
		s.set(func() { delete(s.away, "a") })
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(back); took > p.options.Timeout+time.Second {
			t.Errorf("it took %v to notice that the shard is back", took)
		}
		for _, id := range many {
			expect(t, s.told(t, id), []string{"0 RUNNING", "1 RUNNING"})
		}
		if err := p.shards.cause(); err != nil {
			t.Errorf("all are back, and it says %v", err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_goes_to_who_takes_the_place_of_a_shard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p, many := sharded(t)
		<-time.After(time.Minute) // virtual
		if p.shards.cause() == nil {
			t.Error("it does not say that a shard is away")
		}
		s.set(func() {
			for _, id := range many {
				s.owners[id] = "c"
			}
		})
		after := time.Now()
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(after); took > p.options.Timeout+time.Second {
			t.Errorf("it took %v to find the other", took)
		}
		for _, id := range many {
			expect(t, s.told(t, id), []string{"0 RUNNING"})
		}
		if err := p.shards.cause(); err != nil {
			t.Errorf("another has taken its place, and it says %v", err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_ends_while_a_shard_is_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p, _ := sharded(t)
		<-time.After(time.Minute) // virtual
		if err := p.Close(t.Context()); err == nil {
			t.Error("it does not say that events are lost")
		}
		synctest.Wait()
		if p.queue.depth != 0 {
			t.Errorf("%d events are left", p.queue.depth)
		}
	})
}
