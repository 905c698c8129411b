package interceptors

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Availability tells whether Redis can serve what activities need of it.
// Package worker implements it. It must be safe for concurrent use.
type Availability interface {
	// Available is false while Redis is known to be away.
	Available() bool
	// Changed is closed at the next change of what Available tells, or of what
	// it is made of.
	Changed() <-chan struct{}
}

// Pause are the settings of the layers that make a pause of an outage of Redis.
// The zero value has them all on. A worker that switches one off still enforces
// what workflows of other workers scheduled with it on.
type Pause struct {
	// Hold keeps an attempt whose code was not entered yet in its slot until
	// Redis answers, for HoldFor at most. Defaults to on.
	Hold Mode
	// HoldFor bounds one hold. Past it the attempt ends with a retryable error
	// and gives its slot back. At least 10 ms. Defaults to 10 s.
	HoldFor time.Duration
	// HoldSlots bounds how many attempts of a worker hold at once; the others end
	// with a retryable error at once. At least 1. Defaults to half of the
	// worker's activity slots.
	HoldSlots int
	// Retry turns an outage that outlasts the hold into a retryable, benign
	// ApplicationError with a delay of its own. Defaults to on.
	Retry Mode
	// Attempts has workflows schedule activities that pause in such a way that
	// the time-outs and the number of attempts that the host gave count user code
	// only. Every worker of the task queues has to have the plugin: start a mixed
	// fleet with it off. Defaults to on.
	Attempts Mode
	// OutageBudget is by how much longer than its schedule-to-close time-out an
	// activity may wait for Redis. At least 1 s. Defaults to 24 h.
	OutageBudget time.Duration
}

// Defaults of Pause.
const (
	DefaultHoldFor      = 10 * time.Second
	DefaultHoldSlots    = 500 // half of the SDK's 1000 slots
	DefaultOutageBudget = 24 * time.Hour
)

func (p Pause) withDefaults() Pause {
	on := func(m *Mode) {
		if *m == Default {
			*m = On
		}
	}
	on(&p.Hold)
	on(&p.Retry)
	on(&p.Attempts)
	if p.HoldFor == 0 {
		p.HoldFor = DefaultHoldFor
	}
	if p.HoldSlots == 0 {
		p.HoldSlots = DefaultHoldSlots
	}
	if p.OutageBudget == 0 {
		p.OutageBudget = DefaultOutageBudget
	}
	return p
}

func (p Pause) validate() error {
	var errs []error
	mode := func(name string, m Mode) {
		if m > Off {
			errs = append(errs, fmt.Errorf("interceptors: Pause.%s is %v; use Default, On or Off", name, m))
		}
	}
	mode("Hold", p.Hold)
	mode("Retry", p.Retry)
	mode("Attempts", p.Attempts)
	orOff := func(name string, m Mode) string {
		if m == Off {
			return ""
		}
		return ", or Pause." + name + " Off"
	}
	if p.HoldFor < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("interceptors: Pause.HoldFor is %v; use 10ms or more, 0 for %v%s", p.HoldFor, DefaultHoldFor, orOff("Hold", p.Hold)))
	}
	if p.HoldSlots < 1 {
		errs = append(errs, fmt.Errorf("interceptors: Pause.HoldSlots is %d; use 1 or more, 0 for half of the worker's slots%s", p.HoldSlots, orOff("Hold", p.Hold)))
	}
	if p.OutageBudget < time.Second {
		errs = append(errs, fmt.Errorf("interceptors: Pause.OutageBudget is %v; use 1s or more, 0 for %v%s", p.OutageBudget, DefaultOutageBudget, orOff("Attempts", p.Attempts)))
	}
	return errors.Join(errs...)
}

// ownPrefix begins the types of the plugin's own activities (package
// activities). They do nothing but ask Redis, and may be asked again.
const ownPrefix = "temporal-redis."

func isOwn(activityType string) bool { return strings.HasPrefix(activityType, ownPrefix) }

// pauses tells whether a call waits for Redis rather than fail: what uses it
// does, unless its policy says otherwise.
func (p Policy) pauses(activityType string, hasRef bool) bool {
	switch p.Pause {
	case On:
		return true
	case Off:
		return false
	}
	return isOwn(activityType) || p.Lock == On || p.Config == On || (p.Config == Default && hasRef)
}
