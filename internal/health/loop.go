package health

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// probeTimeout bounds one probe, its dial included.
	probeTimeout = time.Second
	// tick is how often it is looked whether traffic was answered, and quietTicks
	// of them without an answer make a probe: one a second when idle.
	tick       = 250 * time.Millisecond
	quietTicks = 4
	// again is the time between two probes while it is not clear what a failure
	// means, and while Redis is away.
	again = 100 * time.Millisecond
	// confirm is the time from the first good probe of an outage to the second.
	confirm = 75 * time.Millisecond
	// partly is the time between two probes while a part of a Cluster is away.
	partly = 500 * time.Millisecond
	// locked is the time between two probes while Redis refuses the user: each
	// is an entry in the server's ACL LOG, and an operator is slower than that.
	locked = 500 * time.Millisecond
)

// run probes until Close.
func (m *Monitor) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // when the last probe ended
	quiet := quietTicks
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
			// However fast traffic fails, probes keep their distance.
			if !m.pause(again - time.Since(last)) {
				return
			}
		case <-timer.C:
			if m.resting() {
				if quiet++; m.answered.Swap(false) {
					quiet = 0
				}
				if quiet < quietTicks {
					timer.Reset(tick)
					continue
				}
			}
		}
		m.probe()
		last, quiet = time.Now(), 0
		timer.Reset(m.next())
	}
}

// resting tells whether a probe is made only for want of answers.
func (m *Monitor) resting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.status.State == Up
}

// probe asks once and draws the conclusion.
func (m *Monitor) probe() {
	m.answered.Store(false)
	ctx, cancel := context.WithTimeout(m.ctx, probeTimeout)
	f := m.prober.probe(ctx)
	cancel()
	if m.ctx.Err() != nil {
		return
	}
	heard := m.answered.Load()
	// Only probes begin and end outages: no traffic waits for the log.
	m.report.log(m.ctx, m.move(func(now time.Time) { m.machine.probed(now, f, heard) }))
}

// next is the time until the next look.
func (m *Monitor) next() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.next()
}

func (m *machine) next() time.Duration {
	switch {
	case m.status.State == Up:
		return tick
	case m.status.State == Down && m.answers > 0:
		return jitter(confirm)
	case m.status.State == Down && m.status.Class == rediserr.Denied:
		return jitter(locked)
	case m.status.State == Degraded && m.answers > 0:
		return jitter(partly)
	}
	return jitter(again)
}

// jitter keeps processes that lost the same Redis from asking it in step: 0.75 to
// 1.25 of d.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// pause waits and tells whether the monitor still runs.
func (m *Monitor) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}
