package health

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestMonitor_says_one_line_when_Redis_goes_and_one_when_it_is_back(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		w.down(t, gone)
		for range 40 {
			w.Observe(&refusal{"LOADING C4n4ry"}, rediserr.Unavailable)
		}
		pass(5 * time.Second)
		w.script.will(full)
		pass(5 * time.Second)
		w.is(t, Down, rediserr.WordOOM)
		w.script.will(fine)
		pass(time.Second)
		lines := w.log.all()
		if len(lines) != 2 {
			t.Fatalf("it says %q", lines)
		}
		for i, parts := range [][]string{
			{"level=WARN", "op=health", "client=configs", "reason=connection"},
			{"level=INFO", "op=health", "client=configs", "reason=connection", "duration=10", "failed_operations=41", "probes="},
		} {
			for _, part := range parts {
				if !strings.Contains(lines[i], part) {
					t.Errorf("%q lacks %q", lines[i], part)
				}
			}
		}
		if all := strings.Join(lines, " "); strings.Contains(all, "C4n4ry") {
			t.Errorf("an error's text is in %q", all)
		}
	})
}

func TestMonitor_is_loud_once_an_outage_where_access_is_refused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		for range 2 { // outages
			w.down(t, barred)
			pass(10 * time.Second)
			w.script.will(gone)
			pass(2 * time.Second)
			w.script.will(barred)
			pass(2 * time.Second)
			w.script.will(fine)
			pass(2 * time.Second)
			w.is(t, Up, "")
		}
		w.down(t, gone) // and where it is refused later
		w.script.will(barred)
		pass(time.Second)
		w.script.will(fine)
		pass(2 * time.Second)
		var levels string
		for _, line := range w.log.all() {
			levels += line[strings.Index(line, "level=")+6:][:1]
			if strings.Contains(line, "level=ERROR") && (!strings.Contains(line, "remedy=") || !strings.Contains(line, "reason=denied")) {
				t.Errorf("%q helps nobody", line)
			}
		}
		if levels != "EIEIWEI" {
			t.Errorf("levels are %s of %q", levels, w.log.all())
		}
	})
}

func TestMonitor_counts_outages_and_their_time(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fine)
		state := func(s State) float64 {
			return testutil.ToFloat64(w.tel.Metrics.HealthState.WithLabelValues("configs", s.String()))
		}
		seconds := func() float64 { return testutil.ToFloat64(w.tel.Metrics.OutageSeconds.WithLabelValues("configs")) }
		if state(Up) != 1 || state(Unknown) != 0 || state(Down) != 0 {
			t.Errorf("up %v, unknown %v, down %v", state(Up), state(Unknown), state(Down))
		}
		w.down(t, gone)
		pass(10 * time.Second)
		if got := seconds(); got < 9.8 || got > 10 {
			t.Errorf("%v s are counted while it lasts", got)
		}
		if state(Up) != 0 || state(Down) != 1 {
			t.Errorf("up %v, down %v", state(Up), state(Down))
		}
		w.script.will(fine)
		pass(time.Second)
		if got := seconds(); got < 10 || got > 10.3 {
			t.Errorf("%v s are counted", got)
		}
		if got := testutil.ToFloat64(w.tel.Metrics.Outages.WithLabelValues("configs", "connection")); got != 1 {
			t.Errorf("%v outages", got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range []State{Unknown, Up, Degraded, Down} {
			if state(s) != 0 {
				t.Errorf("after Close %v is %v", s, state(s))
			}
		}
	})
}
