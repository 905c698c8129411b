package interceptors

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/compozy/temporal-redis/notifier"
)

type clientInterceptor struct {
	interceptor.ClientInterceptorBase
	host    Host
	options Options
}

// NewClient returns the interceptor for a client: it publishes PENDING for a
// workflow once the server accepted it, and what the client itself did to end
// it. The error wraps ErrInvalidOptions. Safe for concurrent use.
func NewClient(host Host, options Options) (interceptor.ClientInterceptor, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	if host == nil {
		return nil, fmt.Errorf("interceptors: %w: NewClient needs a Host", ErrInvalidOptions)
	}
	return &clientInterceptor{host: host, options: options}, nil
}

// InterceptClient adds the publishing around the client's calls.
func (c *clientInterceptor) InterceptClient(next interceptor.ClientOutboundInterceptor) interceptor.ClientOutboundInterceptor {
	out := &clientOutbound{owner: c}
	out.Next = next
	return out
}

type clientOutbound struct {
	interceptor.ClientOutboundInterceptorBase
	owner *clientInterceptor
}

func (o *clientOutbound) publish(ctx context.Context, workflowID, runID string, s notifier.Status, reason string, final bool) {
	publish(ctx, &o.owner.options, o.owner.host.Publisher(), notifier.Event{
		Kind:        notifier.KindStatus,
		WorkflowID:  o.owner.options.WorkflowID(workflowID),
		RunID:       runID,
		Status:      s,
		Reason:      reason,
		Final:       final,
		Traceparent: traceparent(ctx),
	})
}

// ExecuteWorkflow publishes PENDING once the server accepted the workflow.
func (o *clientOutbound) ExecuteWorkflow(ctx context.Context, in *interceptor.ClientExecuteWorkflowInput) (client.WorkflowRun, error) {
	run, err := o.Next.ExecuteWorkflow(ctx, in)
	if err == nil {
		o.publish(ctx, run.GetID(), run.GetRunID(), notifier.StatusPending, "", false)
	}
	return run, err
}

// SignalWithStartWorkflow publishes PENDING: the run is new or goes on, and a
// PENDING that arrives late changes nothing for subscribers.
func (o *clientOutbound) SignalWithStartWorkflow(
	ctx context.Context, in *interceptor.ClientSignalWithStartWorkflowInput,
) (client.WorkflowRun, error) {
	run, err := o.Next.SignalWithStartWorkflow(ctx, in)
	if err == nil {
		o.publish(ctx, run.GetID(), run.GetRunID(), notifier.StatusPending, "", false)
	}
	return run, err
}

// UpdateWithStartWorkflow publishes PENDING, as SignalWithStartWorkflow does.
func (o *clientOutbound) UpdateWithStartWorkflow(
	ctx context.Context, in *interceptor.ClientUpdateWithStartWorkflowInput,
) (client.WorkflowUpdateHandle, error) {
	update, err := o.Next.UpdateWithStartWorkflow(ctx, in)
	if err == nil {
		o.publish(ctx, update.WorkflowID(), update.RunID(), notifier.StatusPending, "", false)
	}
	return update, err
}

// CancelWorkflow publishes RUNNING with the request as its reason: the workflow
// decides what it makes of it, and its worker publishes how it ended.
func (o *clientOutbound) CancelWorkflow(ctx context.Context, in *interceptor.ClientCancelWorkflowInput) error {
	run := o.run(ctx, in.WorkflowID, in.RunID)
	err := o.Next.CancelWorkflow(ctx, in)
	if err == nil {
		o.publish(ctx, in.WorkflowID, run, notifier.StatusRunning, "cancellation requested", false)
	}
	return err
}

// TerminateWorkflow publishes FAILED as final: no worker sees a termination.
func (o *clientOutbound) TerminateWorkflow(ctx context.Context, in *interceptor.ClientTerminateWorkflowInput) error {
	run := o.run(ctx, in.WorkflowID, in.RunID)
	err := o.Next.TerminateWorkflow(ctx, in)
	if err == nil {
		o.publish(ctx, in.WorkflowID, run, notifier.StatusFailed, "terminated", true)
	}
	return err
}

// run finds the run that a call without a run id means, before the call: after
// it another may have started. It is "" when the server does not tell.
func (o *clientOutbound) run(ctx context.Context, workflowID, runID string) string {
	if runID != "" {
		return runID
	}
	out, err := o.Next.DescribeWorkflow(ctx, &interceptor.ClientDescribeWorkflowInput{WorkflowID: workflowID})
	if err != nil || out == nil || out.Response == nil {
		return ""
	}
	return out.Response.WorkflowExecution.RunID
}
