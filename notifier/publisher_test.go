package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func testPublisher(t *testing.T, s sink, o PublisherOptions) *BackgroundPublisher {
	t.Helper()
	o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	p, err := newPublisher(s, o.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustPublish(t *testing.T, p Publisher, events ...Event) {
	t.Helper()
	for _, ev := range events {
		if err := p.Publish(ev); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Fatalf("got %q; want %q", got, want)
	}
}

func TestPublisher_publishes_at_once_when_Redis_answers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		start := time.Now()
		mustPublish(t, p, status("w", "a", 1, StatusRunning))
		synctest.Wait()
		expect(t, s.told(t, "w"), []string{"a RUNNING"})
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %v", waited)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_never_blocks_and_loses_nothing_in_an_outage_that_fits_its_buffer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*testSink){
		"refused": func(s *testSink) { s.down = io.EOF },
		"hanging": func(s *testSink) { s.hang = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newTestSink()
				p := testPublisher(t, s, PublisherOptions{})
				s.set(func() { fault(s) })
				start := time.Now()
				const workflows = 50
				want := make(map[string][]string)
				for i := range 200 {
					w := fmt.Sprint("w", i%workflows)
					mustPublish(t, p, status(w, fmt.Sprint(i), 1, StatusRunning))
					want[w] = append(want[w], fmt.Sprint(i, " RUNNING"))
				}
				if blocked := time.Since(start); blocked != 0 {
					t.Fatalf("publishing blocked for %v", blocked)
				}
				<-time.After(time.Minute) // virtual
				synctest.Wait()
				if n := len(s.appends); n > p.options.Concurrency {
					t.Errorf("a server that may only be slow got %d appends in a minute", n)
				}
				back := time.Now()
				s.set(func() { s.down, s.hang = nil, false })
				if err := p.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(back); took > p.options.Timeout+time.Second {
					t.Errorf("it took %v to notice that Redis is back", took)
				}
				for w := range want {
					expect(t, s.told(t, w), want[w])
				}
				if err := p.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestPublisher_keeps_the_last_status_of_each_task_and_tells_the_gap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{Buffer: 64, Concurrency: 1})
		s.set(func() { s.down = io.EOF })
		mustPublish(t, p, status("other", "x", 1, StatusRunning))
		synctest.Wait() // the circuit is open: nothing is with a sender
		const tasks = 8
		for _, st := range []Status{StatusPending, StatusRunning, StatusSuccess} {
			for i := range tasks {
				for range 10 {
					mustPublish(t, p, progress("w", fmt.Sprint(i)))
				}
				mustPublish(t, p, status("w", fmt.Sprint(i), 1, st))
			}
		}
		s.set(func() { s.down = nil })
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := s.told(t, "w")
		last := make(map[string]string)
		for _, line := range told[1:] {
			if task, word, _ := strings.Cut(line, " "); word != "progress" {
				last[task] = word
			}
		}
		for i := range tasks {
			if got := last[fmt.Sprint(i)]; got != "SUCCESS" {
				t.Errorf("task %d is %s for subscribers", i, got)
			}
		}
		const published = tasks * 3 * 11
		dropped := published - (len(told) - 1)
		if want := fmt.Sprint("gap ", dropped); told[0] != want {
			t.Errorf("the log begins with %q; want %q", told[0], want)
		}
		if got := testutil.ToFloat64(p.tel.Metrics.PublishDrops); got != float64(dropped) {
			t.Errorf("%v drops counted; want %d", got, dropped)
		}
		expect(t, s.told(t, "other"), []string{"x RUNNING"})
		if got := testutil.ToFloat64(p.tel.Metrics.PublishBuffer); got != 0 {
			t.Errorf("the buffer gauge ends at %v", got)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_appends_once_although_the_reply_was_lost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		s.set(func() { s.loseNext = true })
		mustPublish(t, p, status("w", "a", 1, StatusRunning))
		synctest.Wait()
		mustPublish(t, p, status("w", "a", 1, StatusSuccess))
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, s.told(t, "w"), []string{"a RUNNING", "a SUCCESS"})
	})
}

// What is told of dropped events adds up, whatever becomes of replies.
func TestPublisher_tells_each_gap_once_although_the_reply_was_lost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tasks  int // of the workflow
		others int // other workflows, whose own events are kept rather than those of tasks
		later  int // tasks while the append runs whose reply is lost
		gaps   int
	}{
		"before events":               {tasks: 12, gaps: 1},
		"before events that are kept": {tasks: 11, later: 1, gaps: 1},
		"and more is dropped":         {tasks: 12, later: 12, gaps: 2},
		"alone":                       {tasks: 1, others: 10, gaps: 1},
		"alone, and more is dropped":  {tasks: 1, others: 10, later: 12, gaps: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newTestSink()
				s.down = io.EOF
				p := testPublisher(t, s, PublisherOptions{Buffer: 8, Concurrency: 1})
				mustPublish(t, p, status("first", "", 0, StatusRunning))
				synctest.Wait() // the circuit is open: nothing is with a sender
				published := 0
				publish := func(tasks int) {
					for range tasks {
						mustPublish(t, p, status("w", fmt.Sprint("t", published), 1, StatusRunning))
						published++
					}
				}
				publish(test.tasks)
				for n := range test.others {
					mustPublish(t, p, status(fmt.Sprint("other", n), "", 0, StatusRunning))
				}
				synctest.Wait()
				s.set(func() {
					s.down = nil
					s.lose["w"] = func() { publish(test.later) }
				})
				mustFlush(t, p)
				mustFlush(t, p) // what came during the first
				if err := p.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				gaps, accounted := 0, 0
				seen := make(map[string]bool)
				h := newHistory() // as subscribers read it
				for _, body := range s.log["w"] {
					e, err := decode(body)
					if err != nil || !h.admit(e) {
						t.Fatalf("%s is in the log, of which a reader says nothing (%v)", body, err)
					}
					if e.Kind != KindGap {
						accounted++
						if seen[e.TaskID] {
							t.Errorf("%s is there twice", e.TaskID)
						}
						seen[e.TaskID] = true
						continue
					}
					gaps++
					var lost struct{ Dropped int }
					if err := json.Unmarshal(e.Data, &lost); err != nil {
						t.Fatal(err)
					}
					accounted += lost.Dropped
				}
				if gaps != test.gaps || accounted != published {
					t.Errorf("%d gaps and %d events accounted for, want %d and %d: %q", gaps, accounted, test.gaps, published, s.told(t, "w"))
				}
			})
		})
	}
}

func TestPublisher_waits_for_an_operator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		s.set(func() { s.refuse["w"] = replyError("NOPERM this user has no permissions to run the 'rpush' command") })
		mustPublish(t, p, status("w", "a", 1, StatusRunning))
		<-time.After(5 * time.Minute) // virtual
		s.set(func() { delete(s.refuse, "w") })
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, s.told(t, "w"), []string{"a RUNNING"})
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_flush_and_close_are_bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{DrainTimeout: 5 * time.Second})
		s.set(func() { s.hang = true })
		mustPublish(t, p, status("w", "a", 1, StatusRunning), status("v", "a", 1, StatusRunning))

		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 events") {
			t.Errorf("flush: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("flush took %v; want 1s", took)
		}

		start = time.Now()
		err = p.Close(t.Context())
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "2 events") {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("close took %v; want 5s", took)
		}
		if got := testutil.ToFloat64(p.tel.Metrics.PublishDrops); got != 2 {
			t.Errorf("%v drops counted; want 2", got)
		}
		if got := testutil.ToFloat64(p.tel.Metrics.PublishBuffer); got != 0 {
			t.Errorf("the buffer gauge ends at %v", got)
		}
		if again := p.Close(t.Context()); !errors.Is(again, ErrUnavailable) {
			t.Errorf("the second close: %v", again)
		}
	})
}

func TestPublisher_flush_does_not_wait_for_what_came_later(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		mustPublish(t, p, status("w", "a", 1, StatusRunning))
		synctest.Wait()
		s.set(func() { s.refuse["v"] = io.EOF })
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.set(func() { s.refuse["w"] = nil })
		mustPublish(t, p, status("w", "b", 1, StatusRunning))
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(t.Context()) }()
		synctest.Wait()
		mustPublish(t, p, status("v", "late", 1, StatusRunning))
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
		s.set(func() { delete(s.refuse, "v") })
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPublisher_counts_what_it_published(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testPublisher(t, newTestSink(), PublisherOptions{})
		for i := range 150 {
			mustPublish(t, p, status("w", fmt.Sprint(i), 1, StatusRunning))
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := testutil.ToFloat64(p.tel.Metrics.PubSubMsgs.WithLabelValues(telemetry.Published)); got != 150 {
			t.Errorf("%v events counted; want 150", got)
		}
	})
}

func TestPublisher_takes_a_copy_of_the_data_and_stamps_the_time(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		ev := progress("w", "a")
		ev.Data = json.RawMessage(`{"n":1}`)
		mustPublish(t, p, ev)
		copy(ev.Data, `xxxxxxx`)
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, err := decode(s.log["w"][0])
		if err != nil || string(e.Data) != `{"n":1}` || !e.Time.Equal(time.Now()) {
			t.Errorf("published %+v, %v", e, err)
		}
	})
}

func TestPublisher_starts_and_stops_any_number_of_times(t *testing.T) {
	t.Parallel()
	for range 50 {
		s := newTestSink()
		p := testPublisher(t, s, PublisherOptions{})
		var publishing sync.WaitGroup
		for range 4 {
			publishing.Go(func() {
				var err error
				for err == nil {
					err = p.Publish(status("w", "a", 1, StatusRunning))
				}
			})
		}
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(func() {
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		closing.Wait()
		publishing.Wait()
		if got := testutil.ToFloat64(p.tel.Metrics.PublishBuffer); got != 0 {
			t.Fatalf("the buffer gauge ends at %v", got)
		}
	}
}
