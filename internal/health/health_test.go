package health

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// watched is a monitor that began in a bubble of synctest, with what it says.
type watched struct {
	*Monitor
	script *script
	log    *journal
	tel    *telemetry.Telemetry
}

func start(t *testing.T, first finding) *watched {
	t.Helper()
	w := &watched{script: &script{say: first}, log: &journal{}}
	var err error
	if w.tel, err = telemetry.New(telemetry.Config{Registerer: prometheus.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	w.Monitor = newMonitor(w.script, Options{Name: "configs", Log: w.log.logger(), Metrics: w.tel.Metrics})
	w.Start()
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait() // for the first probe
	return w
}

// pass lets time pass, and everything that is due then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *watched) is(t *testing.T, want State, why rediserr.Word) {
	t.Helper()
	if got := w.Status(); got.State != want || got.Reason != why {
		t.Fatalf("it is %v (%s), want %v (%s)", got.State, got.Reason, want, why)
	}
}

// down brings an outage about.
func (w *watched) down(t *testing.T, f finding) {
	t.Helper()
	w.script.will(f)
	w.Observe(&refusal{"LOADING x"}, rediserr.Unavailable)
	for range 20 { // a probe may just have been made
		if pass(5 * time.Millisecond); w.Status().State == Down {
			break
		}
	}
	w.is(t, Down, f.why)
}

// refusal is an error that Redis says.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }
func (*refusal) RedisError()     {}

func TestMonitor_is_unknown_until_it_is_started(t *testing.T) {
	t.Parallel()
	s := &script{say: fine}
	m := newMonitor(s, Options{})
	m.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
	if got := m.Status(); got != (Status{}) || got.State.String() != "unknown" || !m.Available() {
		t.Errorf("it is %+v", got)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	m.Start()
	if s.count() != 0 || !s.closed {
		t.Errorf("asked %d times, closed: %v", s.count(), s.closed)
	}
}

func TestMonitor_takes_two_failures_to_be_down_one_of_them_the_probes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		probe finding
		want  State
		why   rediserr.Word
	}{
		"the probe is answered":       {fine, Up, ""},
		"the probe fails too":         {gone, Down, rediserr.WordConnection},
		"Redis refuses writes":        {full, Down, rediserr.WordOOM},
		"Redis refuses the user":      {barred, Down, rediserr.WordDenied},
		"a part of a Cluster is away": {some, Degraded, rediserr.WordConnection},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, fine)
				w.is(t, Up, "")
				w.script.will(test.probe)
				w.script.wait = func(ctx context.Context) { _ = sleep(ctx, 10*time.Millisecond) }
				pass(150 * time.Millisecond)
				asked := w.script.count()
				for range 100 { // a burst
					w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
				}
				w.is(t, Degraded, rediserr.WordPool)
				synctest.Wait()
				if got := w.script.count() - asked; got != 1 {
					t.Errorf("%d probes at once, want one", got)
				}
				w.is(t, Degraded, rediserr.WordPool) // until the probe has its word
				pass(10 * time.Millisecond)
				w.is(t, test.want, test.why)
				if w.Available() != (test.want != Down) {
					t.Errorf("available is %v", w.Available())
				}
			})
		})
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestMonitor_finds_an_outage_that_no_traffic_meets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		w.script.will(gone)
		pass(999 * time.Millisecond)
		w.is(t, Up, "")
		pass(2 * time.Millisecond)
		w.is(t, Degraded, rediserr.WordConnection)
		pass(126 * time.Millisecond)
		w.is(t, Down, rediserr.WordConnection)
	})
}

func TestMonitor_asks_only_while_traffic_is_not_answered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		traffic func(*Monitor)
		probes  int
	}{
		"answers":              {func(m *Monitor) { m.Observe(nil, rediserr.OK) }, 0},
		"missing keys":         {func(m *Monitor) { m.Observe(redis.Nil, rediserr.NotFound) }, 0},
		"wrong types":          {func(m *Monitor) { m.Observe(&refusal{"WRONGTYPE x"}, rediserr.Permanent) }, 0},
		"lost races":           {func(m *Monitor) { m.Observe(redis.TxFailedErr, rediserr.Unavailable) }, 0},
		"nothing":              {func(*Monitor) {}, 10},
		"callers that gave up": {func(m *Monitor) { m.Observe(context.Canceled, rediserr.Canceled) }, 10},
		"a closed client":      {func(m *Monitor) { m.Observe(redis.ErrClosed, rediserr.Closed) }, 10},
		"unsendable arguments": {func(m *Monitor) { m.Observe(errors.New("redis: can't marshal x"), rediserr.Permanent) }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, fine)
				asked := w.script.count()
				for range 100 {
					test.traffic(w.Monitor)
					pass(100 * time.Millisecond)
				}
				w.is(t, Up, "")
				if got := w.script.count() - asked; got != test.probes {
					t.Errorf("%d probes in 10 s, want %d", got, test.probes)
				}
			})
		})
	}
}

func TestMonitor_is_up_again_after_two_good_probes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		w.down(t, gone)
		w.Observe(nil, rediserr.OK) // the word of traffic is not enough
		w.is(t, Down, rediserr.WordConnection)

		w.script.will(fine)
		asked := w.script.count()
		began := time.Now()
		changed := w.Changed()
		<-changed
		w.is(t, Up, "")
		if took := time.Since(began); took > 250*time.Millisecond || w.script.count()-asked != 2 {
			t.Errorf("up after %v and %d probes", took, w.script.count()-asked)
		}
	})
}

func TestMonitor_is_not_fooled_by_one_good_probe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		w.down(t, gone)
		for range 5 { // a server that crashes as soon as it is up
			w.script.will(fine)
			for asked := w.script.count(); w.script.count() == asked; {
				pass(time.Millisecond)
			}
			w.script.will(gone)
			pass(200 * time.Millisecond)
			w.is(t, Down, rediserr.WordConnection)
		}
	})
}

func TestMonitor_comes_back_to_a_part_of_a_Cluster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		w.down(t, finding{refused, rediserr.Unavailable, rediserr.WordClusterDown})
		w.script.will(some)
		pass(250 * time.Millisecond)
		w.is(t, Degraded, rediserr.WordConnection)
		asked := w.script.count()
		for range 20 {
			w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
			pass(50 * time.Millisecond)
		}
		if got := w.Status().State; got != Degraded {
			t.Errorf("it is %v", got)
		}
		if got := w.script.count() - asked; got > 3 {
			t.Errorf("%d probes in a second", got)
		}
		w.script.will(fine)
		pass(700 * time.Millisecond)
		w.is(t, Up, "")
	})
}

func TestMonitor_trusts_traffic_over_the_probes_own_connection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		probe finding
		want  State
	}{
		"the probe has no connection": {gone, Degraded},
		"the probe is not answered":   {silent, Degraded},
		"Redis takes no more clients": {finding{lost, rediserr.Unavailable, rediserr.WordClients}, Degraded},
		"Redis refuses writes":        {full, Down}, // reads are answered nevertheless
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, fine)
				w.script.will(test.probe)
				w.script.wait = func(context.Context) { w.Observe(nil, rediserr.OK) }
				w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
				pass(3 * time.Second)
				w.is(t, test.want, test.probe.why)
			})
		})
	}
}

func TestMonitor_leaves_one_denied_command_to_its_caller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		pass(2 * time.Second)
		asked := w.script.count()
		for range 1000 {
			w.Observe(&refusal{"NOPERM x"}, rediserr.Denied)
			pass(10 * time.Millisecond)
			if w.Status().State == Down {
				t.Fatal("it is down")
			}
		}
		if got := w.script.count() - asked; got > 11 {
			t.Errorf("%d probes in 10 s", got)
		}
	})
}

func TestMonitor_asks_one_at_a_time_and_not_too_often(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		say         finding
		least, most int // probes in 10 s
	}{
		"away":   {gone, 80, 135},
		"silent": {silent, 9, 10},
		"denied": {barred, 16, 28},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, fine)
				if test.say == silent {
					w.script.wait = func(ctx context.Context) { <-ctx.Done() }
					w.script.will(silent)
					pass(again)
					w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
					pass(probeTimeout)
					w.is(t, Down, rediserr.WordTimeout)
				} else {
					w.down(t, test.say)
				}
				asked := w.script.count()
				for range 100 {
					for range 10 {
						w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
					}
					pass(100 * time.Millisecond)
				}
				if got := w.script.count() - asked; got < test.least || got > test.most {
					t.Errorf("%d probes in 10 s", got)
				}
				if w.script.most != 1 {
					t.Errorf("%d probes at the same time", w.script.most)
				}
			})
		})
	}
}

func TestMonitor_flaps_no_faster_than_it_probes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		asked := w.script.count()
		for range 1000 { // some calls fail, the probe does not
			w.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
			pass(time.Millisecond)
		}
		if got := w.script.count() - asked; got > 11 {
			t.Errorf("%d probes in a second", got)
		}
		if lines := w.log.all(); len(lines) != 0 {
			t.Errorf("it says %q", lines)
		}
	})
}

func TestMonitor_wakes_who_waits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		if err := w.AwaitAvailable(t.Context()); err != nil {
			t.Error(err)
		}
		w.down(t, gone)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.AwaitAvailable(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		results := make(chan error, 50)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range cap(results) {
			go func() { results <- w.AwaitAvailable(ctx) }()
		}
		synctest.Wait()
		w.script.will(fine)
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestMonitor_starts_and_ends_at_any_time(t *testing.T) {
	t.Parallel()
	for range 50 {
		// A probe ends with its context, and not at once.
		s := &script{say: fine, wait: func(ctx context.Context) { <-ctx.Done(); <-time.After(time.Millisecond) }}
		m := newMonitor(s, Options{Log: (&journal{}).logger()})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 100 {
				m.Observe(redis.ErrPoolTimeout, rediserr.Unavailable)
				m.Observe(nil, rediserr.OK)
			}
		}()
		go m.Start()
		m.Start()
		for s.count() == 0 {
			runtime.Gosched()
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		<-done
		if s.early || !s.closed {
			t.Errorf("closed: %v, under a probe: %v", s.closed, s.early)
		}
	}
}

func TestObserve_of_a_success_allocates_nothing(t *testing.T) {
	m := newMonitor(&script{say: fine}, Options{})
	defer func() { _ = m.Close() }()
	if got := testing.AllocsPerRun(1000, func() { m.Observe(nil, rediserr.OK) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
