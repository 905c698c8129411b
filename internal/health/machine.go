package health

import (
	"time"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// verdict is what a probe found.
type verdict int

const (
	good    verdict = iota // every master took the write
	partial                // some masters of a Cluster did
	lost                   // no answer: there is no connection, or it is silent
	refused                // Redis says that it does not serve us
)

// finding is the word of a probe.
type finding struct {
	verdict verdict
	class   rediserr.Class // of what failed
	why     rediserr.Word  // of what failed
}

const (
	// enoughFailures in a row are an outage, if one of them is a probe's.
	enoughFailures = 2
	// enoughGood probes in a row end one.
	enoughGood = 2
	// deniedTrust is for how long after a good probe a denied command is that
	// command's own affair.
	deniedTrust = time.Second
)

// machine decides about the state. It does no I/O and reads no clock; who uses it
// keeps it from concurrent use.
type machine struct {
	status  Status
	failing int       // failures of traffic since the last good probe
	missed  int       // failed probes in a row
	answers int       // good probes in a row
	goodAt  time.Time // when the last good probe ended; zero: there was none
	outage  outage
}

// outage is what is told of the present one, or of the last.
type outage struct {
	reason     rediserr.Word
	began      time.Time
	operations int64 // of traffic that failed; those from its begin on are counted outside
	probes     int64
}

// traffic takes a failed operation, and tells whether to probe at once.
func (m *machine) traffic(now time.Time, class rediserr.Class, why rediserr.Word) bool {
	if class == rediserr.Denied && !m.goodAt.IsZero() && now.Sub(m.goodAt) < deniedTrust && m.status.State != Down {
		return false
	}
	m.failing++
	if m.status.State == Degraded || m.status.State == Down {
		return false // a probe is due already
	}
	m.enter(now, Degraded, class, why)
	return true
}

// probed takes the word of a probe. heard tells whether traffic was answered since
// the probe was sent.
func (m *machine) probed(now time.Time, f finding, heard bool) {
	if m.status.State == Down {
		m.outage.probes++
	}
	switch f.verdict {
	case good, partial:
		m.answer(now, f)
	case lost, refused:
		m.answers = 0
		if f.verdict == lost && heard && m.status.State != Down {
			// Others are served: it is the probe's connection that failed.
			m.enter(now, Degraded, f.class, f.why)
			return
		}
		m.missed++
		if m.status.State == Down || m.missed+m.failing >= enoughFailures {
			m.enter(now, Down, f.class, f.why)
			return
		}
		m.enter(now, Degraded, f.class, f.why)
	}
}

func (m *machine) answer(now time.Time, f finding) {
	m.answers++
	m.failing, m.missed = 0, 0
	if m.status.State == Down && m.answers < enoughGood {
		return
	}
	if f.verdict == partial {
		m.enter(now, Degraded, f.class, f.why)
		return
	}
	m.goodAt = now
	m.enter(now, Up, rediserr.OK, rediserr.WordNone)
}

func (m *machine) enter(now time.Time, state State, class rediserr.Class, why rediserr.Word) {
	if state == Down && m.status.State != Down {
		m.outage = outage{reason: why, began: now, operations: int64(m.failing), probes: int64(m.missed)}
	}
	if state != m.status.State {
		m.status.Since = now
	}
	m.status.State, m.status.Class, m.status.Reason = state, class, why
}
