package interceptors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/notifier"
)

// listener is a Host whose publisher keeps what it is given.
type listener struct{ events []notifier.Event }

func (l *listener) Enter() (Resources, func(), error) {
	return Resources{}, nil, errors.New("not used")
}
func (l *listener) Publisher() notifier.Publisher { return l }
func (l *listener) Publish(ev notifier.Event) error {
	l.events = append(l.events, ev)
	return nil
}

// server is Temporal's side of a client: it notes the calls in their order and
// has one open run, after whose end another starts.
type server struct {
	interceptor.ClientOutboundInterceptorBase
	calls   []string
	run     string
	refuses error
	mute    bool // DescribeWorkflow fails
}

func (s *server) end(call string) error {
	s.calls = append(s.calls, call)
	if s.refuses == nil {
		s.run = "the next run"
	}
	return s.refuses
}

func (s *server) CancelWorkflow(context.Context, *interceptor.ClientCancelWorkflowInput) error {
	return s.end("cancel")
}

func (s *server) TerminateWorkflow(context.Context, *interceptor.ClientTerminateWorkflowInput) error {
	return s.end("terminate")
}

func (s *server) DescribeWorkflow(
	context.Context, *interceptor.ClientDescribeWorkflowInput,
) (*interceptor.ClientDescribeWorkflowOutput, error) {
	s.calls = append(s.calls, "describe")
	if s.mute {
		return nil, errors.New("not permitted")
	}
	return &interceptor.ClientDescribeWorkflowOutput{Response: &client.WorkflowExecutionDescription{
		WorkflowExecutionMetadata: client.WorkflowExecutionMetadata{
			WorkflowExecution: workflow.Execution{ID: "wf", RunID: s.run},
		},
	}}, nil
}

func (s *server) UpdateWithStartWorkflow(
	context.Context, *interceptor.ClientUpdateWithStartWorkflowInput,
) (client.WorkflowUpdateHandle, error) {
	return update{}, s.refuses
}

type update struct{ client.WorkflowUpdateHandle }

func (update) WorkflowID() string { return "wf" }
func (update) RunID() string      { return "the run" }

func TestClientTellsTheRunThatItMeant(t *testing.T) {
	t.Parallel()
	terminate := func(run string) func(context.Context, interceptor.ClientOutboundInterceptor) error {
		return func(ctx context.Context, out interceptor.ClientOutboundInterceptor) error {
			return out.TerminateWorkflow(ctx, &interceptor.ClientTerminateWorkflowInput{WorkflowID: "wf", RunID: run})
		}
	}
	cancel := func(ctx context.Context, out interceptor.ClientOutboundInterceptor) error {
		return out.CancelWorkflow(ctx, &interceptor.ClientCancelWorkflowInput{WorkflowID: "wf"})
	}
	start := func(ctx context.Context, out interceptor.ClientOutboundInterceptor) error {
		_, err := out.UpdateWithStartWorkflow(ctx, &interceptor.ClientUpdateWithStartWorkflowInput{})
		return err
	}
	event := func(run string, s notifier.Status, reason string, final bool) []notifier.Event {
		return []notifier.Event{{Kind: notifier.KindStatus, WorkflowID: "wf", RunID: run, Status: s, Reason: reason, Final: final}}
	}
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		server server
		call   func(context.Context, interceptor.ClientOutboundInterceptor) error
		calls  []string
		want   []notifier.Event
	}{
		"a termination without a run ends the run that was open before it": {
			call: terminate(""), calls: []string{"describe", "terminate"},
			want: event("the run", notifier.StatusFailed, "terminated", true),
		},
		"a termination with a run asks nobody": {
			call: terminate("given"), calls: []string{"terminate"},
			want: event("given", notifier.StatusFailed, "terminated", true),
		},
		"a termination whose run is not told is told all the same": {
			server: server{mute: true}, call: terminate(""), calls: []string{"describe", "terminate"},
			want: event("", notifier.StatusFailed, "terminated", true),
		},
		"a refused termination ends nothing": {
			server: server{refuses: refused}, call: terminate(""), calls: []string{"describe", "terminate"},
		},
		"a cancellation is a request to the run that was open before it": {
			call: cancel, calls: []string{"describe", "cancel"},
			want: event("the run", notifier.StatusRunning, "cancellation requested", false),
		},
		"a refused cancellation requests nothing": {
			server: server{refuses: refused}, call: cancel, calls: []string{"describe", "cancel"},
		},
		"an update with start is pending": {
			call: start, want: event("the run", notifier.StatusPending, "", false),
		},
		"a refused update with start is nothing": {
			server: server{refuses: refused}, call: start,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := &listener{}
			in, err := NewClient(heard, Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			temporal := c.server
			temporal.run = "the run"
			if err := c.call(t.Context(), in.InterceptClient(&temporal)); !errors.Is(err, temporal.refuses) {
				t.Errorf("error is %v, want the server's %v", err, temporal.refuses)
			}
			if !slices.Equal(temporal.calls, c.calls) {
				t.Errorf("calls %v, want %v", temporal.calls, c.calls)
			}
			if len(heard.events) != len(c.want) || (len(c.want) == 1 && !sameEvent(heard.events[0], c.want[0])) {
				t.Errorf("published %+v, want %+v", heard.events, c.want)
			}
		})
	}
}

func sameEvent(a, b notifier.Event) bool {
	return a.Kind == b.Kind && a.WorkflowID == b.WorkflowID && a.RunID == b.RunID &&
		a.Status == b.Status && a.Reason == b.Reason && a.Final == b.Final
}
