package interceptors

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Mode says whether a step applies. The zero value leaves the decision to the
// next more general policy.
type Mode uint8

const (
	// Default leaves the decision to the policy of the activity type, then to
	// the default policy, then to the built-in one.
	Default Mode = iota
	// On applies the step.
	On
	// Off leaves the step out.
	Off
)

// String names the mode for errors and logs.
func (m Mode) String() string {
	switch m {
	case Default:
		return "default"
	case On:
		return "on"
	case Off:
		return "off"
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// Policy says which steps surround an activity. The zero value means the
// built-in defaults.
type Policy struct {
	// Config reads the config named by interceptors.WithConfig before the
	// activity. On makes a missing ref an error. Defaults to on when the call
	// carries a ref.
	Config Mode `json:"config,omitempty"`
	// Lock runs the activity under its workflow's lease. Defaults to off.
	Lock Mode `json:"lock,omitempty"`
	// LockKey names the function of Options.LockKeys that says what the lock is on.
	// Defaults to Options.LockKey.
	LockKey string `json:"lock_key,omitempty"`
	// Status publishes the activity's transitions. Defaults to on.
	Status Mode `json:"status,omitempty"`
	// Pause has the activity wait for Redis when it is away, rather than fail (see
	// Options.Pause). Defaults to on for what uses Redis by its policy: a config or
	// a lock. Set it On for an activity whose own code does: it is then entered
	// only while Redis answers. Off leaves outages to Temporal as any other error.
	Pause Mode `json:"pause,omitempty"`
}

// Critical is the policy of an activity that must not overlap with another
// critical activity of the same workflow.
var Critical = Policy{Lock: On}

// builtin resolves what nobody decided. Config and Pause stay at Default: on when
// the call carries a ref, and on when it uses Redis.
var builtin = Policy{Lock: Off, Status: On}

// over returns p with its Default fields taken from base.
func (p Policy) over(base Policy) Policy {
	pick := func(a, b Mode) Mode {
		if a != Default {
			return a
		}
		return b
	}
	return Policy{
		Config:  pick(p.Config, base.Config),
		Lock:    pick(p.Lock, base.Lock),
		LockKey: cmp.Or(p.LockKey, base.LockKey),
		Status:  pick(p.Status, base.Status),
		Pause:   pick(p.Pause, base.Pause),
	}
}

func (p Policy) validate(name string) error {
	var errs []error
	check := func(field string, m Mode) {
		if m > Off {
			errs = append(errs, fmt.Errorf("interceptors: policy of %s: %s is %v; use Default, On or Off", name, field, m))
		}
	}
	check("Config", p.Config)
	check("Lock", p.Lock)
	check("Status", p.Status)
	check("Pause", p.Pause)
	return errors.Join(errs...)
}

// policies finds the policy of a call.
type policies struct {
	fallback Policy
	byType   map[string]Policy
}

func newPolicies(fallback Policy, byType map[string]Policy) (policies, error) {
	errs := []error{fallback.validate("the default")}
	for _, name := range slices.Sorted(maps.Keys(byType)) {
		if name == "" {
			errs = append(errs, errors.New("interceptors: Policies has an empty activity type; name the type or set DefaultPolicy"))
		}
		errs = append(errs, byType[name].validate(fmt.Sprintf("activity type %q", name)))
	}
	return policies{fallback: fallback, byType: maps.Clone(byType)}, errors.Join(errs...)
}

// of resolves call over type over default over built-in. What the host says of all
// activities in general is not meant for ours, which have no config and lock nothing.
func (p policies) of(activityType string, call Policy) Policy {
	fallback := p.fallback
	if isOwn(activityType) {
		fallback.Config, fallback.Lock, fallback.LockKey = Off, Off, ""
	}
	return call.over(p.byType[activityType]).over(fallback).over(builtin)
}
