package interceptors

import (
	"errors"
	"testing"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

func TestARunsEndIsFinalUnlessTemporalStartsAnother(t *testing.T) {
	t.Parallel()
	retried := func(attempt int32, p temporal.RetryPolicy) workflow.Info {
		return workflow.Info{Attempt: attempt, RetryPolicy: &p}
	}
	failure := errors.New("no money")
	for name, c := range map[string]struct {
		info workflow.Info
		err  error
		want bool
	}{
		"a success":                            {workflow.Info{}, nil, false},
		"a failure without a policy":           {workflow.Info{}, failure, false},
		"a success of a cron":                  {workflow.Info{CronSchedule: "@daily"}, nil, true},
		"a failure of a cron":                  {workflow.Info{CronSchedule: "@daily"}, failure, true},
		"a success under a policy":             {retried(1, temporal.RetryPolicy{}), nil, false},
		"a failure under a policy":             {retried(1, temporal.RetryPolicy{}), failure, true},
		"a failure before the last attempt":    {retried(2, temporal.RetryPolicy{MaximumAttempts: 3}), failure, true},
		"a failure of the last attempt":        {retried(3, temporal.RetryPolicy{MaximumAttempts: 3}), failure, false},
		"a cancellation of a cron":             {workflow.Info{CronSchedule: "@daily"}, temporal.NewCanceledError(), false},
		"a cancellation under a policy":        {retried(1, temporal.RetryPolicy{}), temporal.NewCanceledError(), false},
		"a failure that says it is the last":   {retried(1, temporal.RetryPolicy{}), temporal.NewNonRetryableApplicationError("x", "T", nil), false},
		"a failure that the policy leaves out": {retried(1, temporal.RetryPolicy{NonRetryableErrorTypes: []string{"T"}}), temporal.NewApplicationError("x", "T"), false},
		"a failure of another type":            {retried(1, temporal.RetryPolicy{NonRetryableErrorTypes: []string{"T"}}), temporal.NewApplicationError("x", "U"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := goesOn(&c.info, c.err); got != c.want {
				t.Errorf("goes on: %v, want %v", got, c.want)
			}
		})
	}
}
