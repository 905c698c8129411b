package interceptors

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

type workerInterceptor struct {
	interceptor.WorkerInterceptorBase
	host     Host
	options  Options
	policies policies
	metrics  *telemetry.Metrics
	steps    []step
	holders  atomic.Int64 // attempts that hold
	away     atomic.Int64 // when Redis was last known to be away, in nanoseconds since 1970
}

// NewWorker returns the interceptor for the activities and workflows of a
// worker or replayer. Host hands out the resources. The error wraps
// ErrInvalidOptions. The interceptor is safe for concurrent use.
func NewWorker(host Host, options Options) (interceptor.WorkerInterceptor, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	if host == nil {
		return nil, fmt.Errorf("interceptors: %w: NewWorker needs a Host", ErrInvalidOptions)
	}
	policies, err := newPolicies(options.DefaultPolicy, options.Policies)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	instruments, err := telemetry.New(telemetry.Config{Logger: options.Logger, Registerer: options.Registerer})
	if err != nil {
		return nil, fmt.Errorf("interceptors: %w: %w", ErrInvalidOptions, err)
	}
	w := &workerInterceptor{host: host, options: options, policies: policies, metrics: instruments.Metrics}
	w.steps = w.chain()
	return w, nil
}

// InterceptActivity adds the chain around every activity.
func (w *workerInterceptor) InterceptActivity(
	_ context.Context, next interceptor.ActivityInboundInterceptor,
) interceptor.ActivityInboundInterceptor {
	a := &activityInbound{worker: w}
	a.Next = next
	return a
}

// InterceptWorkflow adds the status publishing and the headers to every run.
func (w *workerInterceptor) InterceptWorkflow(
	_ workflow.Context, next interceptor.WorkflowInboundInterceptor,
) interceptor.WorkflowInboundInterceptor {
	in := &workflowInbound{worker: w}
	in.Next = next
	return in
}
