package interceptors

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// lateServer says that an activity is cancelled, which the SDK hears at that moment too.
type lateServer struct {
	client.Client
	heard   func()
	says    error // to a heartbeat
	refuses error // the answer
	answers int
}

func (s *lateServer) RecordActivityHeartbeatWithOptions(context.Context, client.RecordActivityHeartbeatOptions) error {
	s.heard()
	return s.says
}

func (s *lateServer) CompleteActivity(ctx context.Context, _ []byte, _ any, _ error) error {
	s.heard()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.answers++
	return s.refuses
}

// However a cancellation is heard, and whoever hears it first, it is what the attempt
// ends by.
func TestACancellationIsAnsweredAsOne(t *testing.T) {
	t.Parallel()
	canceled := temporal.NewCanceledError()
	for name, test := range map[string]struct {
		why, says error
		refuses   error
		sdk       bool // it hears it meanwhile
		want      string
	}{
		"it was heard":                            {why: canceled, want: "answered"},
		"it was heard, and by the SDK":            {why: canceled, sdk: true, want: "answered"},
		"it is heard by the last question":        {says: canceled, want: "answered"},
		"and by the SDK":                          {says: canceled, sdk: true, want: "answered"},
		"by the SDK alone":                        {sdk: true, want: "canceled"},
		"the answer is refused":                   {why: canceled, refuses: errors.New("no"), want: "otherwise"},
		"the answer is refused, the SDK knows":    {why: canceled, refuses: errors.New("no"), sdk: true, want: "canceled"},
		"it is not cancelled":                     {want: "otherwise"},
		"the server does not answer the question": {says: context.DeadlineExceeded, want: "otherwise"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			server := &lateServer{says: test.says, refuses: test.refuses, heard: func() {
				if test.sdk {
					cancel(canceled)
				}
			}}
			c := &call{began: time.Now(), details: &details{}}
			otherwise := errors.New("otherwise")
			err := c.answerTo(ctx, server, otherwise, test.why, true)
			got := "otherwise"
			switch {
			case errors.As(err, new(*answeredError)):
				got = "answered"
			case temporal.IsCanceledError(err):
				got = "canceled"
			case !errors.Is(err, otherwise):
				t.Errorf("it ends with %v", err)
			}
			if got != test.want || (server.answers > 0) != (got == "answered" || test.refuses != nil) {
				t.Errorf("%s, after %d answers; want %s", got, server.answers, test.want)
			}
		})
	}
}
