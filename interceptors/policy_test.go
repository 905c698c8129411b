package interceptors

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/activity"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	w := policiesOf(t, Policy{Status: Off}, map[string]Policy{"charge": Critical, "quiet": {Status: Off}, "loud": {Status: On}})
	cases := map[string]struct {
		activity string
		call     Policy
		want     Policy
	}{
		"an unknown type gets the default policy over the built-in one": {
			activity: "other", want: Policy{Lock: Off, Status: Off},
		},
		"a type's policy is over the default": {
			activity: "loud", want: Policy{Lock: Off, Status: On},
		},
		"critical takes the lock and keeps the rest": {
			activity: "charge", want: Policy{Lock: On, Status: Off},
		},
		"a call's policy is over all": {
			activity: "charge", call: Policy{Lock: Off, Config: On, Pause: Off},
			want: Policy{Config: On, Lock: Off, Status: Off, Pause: Off},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := w.of(c.activity, c.call); got != c.want {
				t.Errorf("policy is %+v, want %+v", got, c.want)
			}
		})
	}
}

// What a host says of all activities is not meant for those of this module.
func TestPolicyOfOurOwnActivities(t *testing.T) {
	t.Parallel()
	name := ownPrefix + "ExtendConfigs"
	general := Policy{Config: On, Lock: On, LockKey: "tenant", Status: Off, Pause: Off}
	if got, want := policiesOf(t, general, nil).of(name, Policy{}), (Policy{Config: Off, Lock: Off, Status: Off, Pause: Off}); got != want {
		t.Errorf("policy is %+v, want %+v", got, want)
	}
	if got := policiesOf(t, general, map[string]Policy{name: Critical}).of(name, Policy{}); got.Lock != On {
		t.Errorf("policy is %+v, want the lock that its type was given", got)
	}
}

func policiesOf(t *testing.T, fallback Policy, byType map[string]Policy) policies {
	t.Helper()
	p, err := newPolicies(fallback, byType)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOptionsNameEveryMistake(t *testing.T) {
	t.Parallel()
	err := Options{
		RetryDelay:    time.Millisecond,
		DefaultPolicy: Policy{Lock: 7},
		Policies:      map[string]Policy{"": {}, "charge": {Status: 9}},
		Pause:         Pause{Hold: Off, HoldFor: -1, OutageBudget: -1},
	}.Validate()
	if !errors.Is(err, ErrInvalidOptions) {
		t.Fatalf("Validate gave %v, want ErrInvalidOptions", err)
	}
	if strings.Contains(err.Error(), "Pause.Hold Off") { // it is
		t.Errorf("the error offers what is set: %v", err)
	}
	for _, part := range []string{"Pause.HoldFor", "Pause.Attempts Off", "RetryDelay", "policy of the default: Lock", "empty activity type", `activity type "charge": Status`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %q: %v", part, err)
		}
	}
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("the zero value is refused: %v", err)
	}
}

func TestRetryDelay(t *testing.T) {
	t.Parallel()
	w := func(jitter float64) *workerInterceptor {
		return &workerInterceptor{options: Options{RetryDelay: time.Second, jitter: func() float64 { return jitter }}}
	}
	// closes tells an attempt that has so much left.
	closes := func(left time.Duration) activity.Info {
		const passed = time.Minute
		return activity.Info{Attempt: 5, ScheduledTime: time.Now().Add(-passed), ScheduleToCloseTimeout: passed + left}
	}
	cases := map[string]struct {
		jitter float64
		info   func() activity.Info
		want   time.Duration
	}{
		"the first attempt waits half the option at least":            {0, attempt(1), 500 * time.Millisecond},
		"and one and a half times the option at most":                 {1, attempt(1), 1500 * time.Millisecond},
		"it grows with the attempts to five times":                    {0.5, attempt(100), 5 * time.Second},
		"it stays under half of what is left of schedule-to-close":    {0.5, func() activity.Info { return closes(2 * time.Second) }, time.Second},
		"it is never zero, which would mean unset":                    {0, func() activity.Info { return closes(time.Microsecond) }, time.Millisecond},
		"it is as without a limit where the limit has passed already": {0.5, func() activity.Info { return closes(-time.Second) }, 5 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // time stands still
				if got := w(c.jitter).retryDelay(c.info()); got != c.want {
					t.Errorf("delay is %v, want %v", got, c.want)
				}
			})
		})
	}
}

func attempt(n int32) func() activity.Info {
	return func() activity.Info { return activity.Info{Attempt: n} }
}

func TestReasonIsOneBoundedLine(t *testing.T) {
	t.Parallel()
	long := reasonOf(errors.New("first\nsecond\t" + strings.Repeat("ü", maxReasonBytes)))
	if len(long) > maxReasonBytes || strings.ContainsAny(long, "\n\t") || !strings.HasPrefix(long, "first second ü") {
		t.Errorf("reason is %d bytes: %q", len(long), long)
	}
}

func TestWorkflowLockKey(t *testing.T) {
	t.Parallel()
	info := func(ns, id string) activity.Info {
		i := activity.Info{Namespace: ns}
		i.WorkflowExecution.ID = id
		return i
	}
	a, errA := workflowLockKey(info("a", "b/c"))
	b, errB := workflowLockKey(info("a/b", "c"))
	if errA != nil || errB != nil || a == b {
		t.Errorf("two workflows share the lock %q (%v, %v)", a, errA, errB)
	}
	long, err := workflowLockKey(info("default", strings.Repeat("x", 5000)))
	if err != nil || len(long) > 100 {
		t.Errorf("the lock of a long id is %d bytes, %v", len(long), err)
	}
	if _, err := workflowLockKey(info("default", "")); !errors.Is(err, errNoWorkflow) {
		t.Errorf("an activity without a workflow gave %v", err)
	}
}
