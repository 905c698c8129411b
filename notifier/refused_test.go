package notifier

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestPublisher_does_not_let_one_bad_workflow_hold_up_the_others(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{Concurrency: 1})
		s.refuse["bad"] = replyError("WRONGTYPE Operation against a key holding the wrong kind of value")
		mustPublish(t, p, status("bad", "a", 1, StatusRunning), status("good", "a", 1, StatusRunning))
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, s.told(t, "good"), []string{"a RUNNING"})
		if got := testutil.ToFloat64(p.tel.Metrics.PublishErrors.WithLabelValues("permanent")); got != 2 { // the gap that tells of it is refused as well
			t.Errorf("%v permanent errors counted; want 2", got)
		}
		if got := testutil.ToFloat64(p.tel.Metrics.PublishDrops); got != 1 {
			t.Errorf("%v drops counted; want 1", got)
		}
	})
}

// What Redis will never take is missing from the log, which says so where it goes on,
// with what was to be told before.
func TestPublisher_tells_that_a_batch_was_refused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{Concurrency: 1, Buffer: 80})
		s.set(func() { s.down = io.EOF })
		const published = 90
		for i := range published {
			mustPublish(t, p, status("w", fmt.Sprint(i), 1, StatusRunning))
		}
		s.set(func() { s.down, s.once = nil, replyError("ERR no") })
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := s.told(t, "w")
		var lost int
		if _, err := fmt.Sscanf(told[0], "gap %d", &lost); err != nil || lost <= maxBatch || lost+len(told)-1 != published {
			t.Errorf("of %d events %d are told, behind %q", published, len(told)-1, told[0])
		}
		s.set(func() { s.once = replyError("ERR no") })
		mustPublish(t, p, status("w", "alone", 1, StatusRunning)) // nothing comes behind it
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(p.queue.mailboxes) > 0 || testutil.ToFloat64(p.tel.Metrics.PublishDrops) != float64(lost+1) {
			t.Errorf("%d mailboxes are left, %v drops are counted", len(p.queue.mailboxes), testutil.ToFloat64(p.tel.Metrics.PublishDrops))
		}
	})
}
