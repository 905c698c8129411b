package interceptors

import (
	"math"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"
)

// limits are what the host gave an activity that pauses. They travel in the
// header, because what the server is told is wider: it cannot tell an attempt
// that found Redis away from one of the user's.
type limits struct {
	// Attempts is the retry policy's MaximumAttempts; 0 has no bound.
	Attempts int32 `json:"attempts,omitempty"`
	// StartToClose and ScheduleToClose are the time-outs; 0 is not given.
	StartToClose    time.Duration `json:"start_to_close,omitempty"`
	ScheduleToClose time.Duration `json:"schedule_to_close,omitempty"`
	// TimeoutEnds tells that the retry policy has no attempt after one that ran
	// into StartToClose.
	TimeoutEnds bool `json:"timeout_ends,omitempty"`
	// Initial, Coefficient and Maximum are the retry policy's intervals; 0 is
	// not given. (The server tells a worker them too, but not always.)
	Initial     time.Duration `json:"initial,omitempty"`
	Coefficient float64       `json:"coefficient,omitempty"`
	Maximum     time.Duration `json:"maximum,omitempty"`
}

// shape widens the options of the call that is about to be scheduled so that an
// outage ends none of them, and returns what the host had given. Replays compare
// an activity's id and type, so options may be changed freely.
func (w *workerInterceptor) shape(ctx workflow.Context, activityType string, e *envelope, p Policy) workflow.Context {
	if w.options.Pause.Attempts != On || !p.pauses(activityType, e.Ref != nil) || strings.HasPrefix(activityType, sessionPrefix) {
		return ctx
	}
	o := workflow.GetActivityOptions(ctx)
	l := &limits{StartToClose: o.StartToCloseTimeout, ScheduleToClose: o.ScheduleToCloseTimeout}
	extra := plus(w.options.Pause.HoldFor, overrunSlack)
	if p.Lock == On {
		extra += w.options.LockWait
	}
	// An attempt without a time-out of its own has that of the whole.
	if attempt := l.StartToClose; attempt > 0 {
		ctx = workflow.WithStartToCloseTimeout(ctx, plus(attempt, extra))
	} else if l.ScheduleToClose > 0 {
		ctx = workflow.WithStartToCloseTimeout(ctx, plus(l.ScheduleToClose, extra))
	}
	if l.ScheduleToClose > 0 {
		ctx = workflow.WithScheduleToCloseTimeout(ctx, plus(l.ScheduleToClose, w.options.Pause.OutageBudget))
	}
	ctx = workflow.WithScheduleToStartTimeout(ctx, 0) // never tried again by Temporal
	if p := o.RetryPolicy; p != nil {
		l.Attempts, l.Initial, l.Coefficient, l.Maximum = p.MaximumAttempts, p.InitialInterval, p.BackoffCoefficient, p.MaximumInterval
		l.TimeoutEnds = slices.Contains(p.NonRetryableErrorTypes, "TemporalTimeout:"+enumspb.TIMEOUT_TYPE_START_TO_CLOSE.String())
		if p.MaximumAttempts > 0 {
			more := *p
			more.MaximumAttempts = math.MaxInt32 // of 0 Temporal's test environment makes 10
			ctx = workflow.WithRetryPolicy(ctx, more)
		}
	}
	e.Limits = l
	return ctx
}

// plus adds without overflow.
func plus(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Temporal's own retry intervals where the policy does not say.
const (
	temporalInitialInterval = time.Second
	temporalCoefficient     = 2.0
	temporalIntervals       = 100 // MaximumInterval, in initial ones
)

// intervalAfter is Temporal's pause after the given user attempt (from 1).
func (l *limits) intervalAfter(attempt int32) time.Duration {
	initial, coefficient, maximum := l.Initial, l.Coefficient, l.Maximum
	if initial <= 0 {
		initial = temporalInitialInterval
	}
	if coefficient < 1 {
		coefficient = temporalCoefficient
	}
	if maximum <= 0 {
		maximum = temporalIntervals * initial
	}
	interval := float64(initial) * math.Pow(coefficient, float64(attempt-1))
	if interval > float64(maximum) {
		return maximum
	}
	return time.Duration(interval)
}
