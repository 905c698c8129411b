package notifier

import "context"

type contextKey int

const (
	publisherKey contextKey = iota
	callKey
)

// NewContext returns a context that carries the publisher.
func NewContext(ctx context.Context, p Publisher) context.Context {
	return context.WithValue(ctx, publisherKey, p)
}

// FromContext returns the publisher of the running activity, if there is one.
func FromContext(ctx context.Context) (Publisher, bool) {
	p, ok := ctx.Value(publisherKey).(Publisher)
	return p, ok && p != nil
}

// Call says which task the running activity works for.
type Call struct {
	WorkflowID string // id under which events are published
	TaskID     string // the host's name of the task
	Call       int64  // number of the call within its run, 0 when unknown
	Attempt    int32  // as Temporal counts it, from 1; 0 when unknown
}

// WithCall returns a context that carries the call.
func WithCall(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey, c)
}

// CallFromContext returns the call of the running activity, if it is known.
func CallFromContext(ctx context.Context) (Call, bool) {
	c, ok := ctx.Value(callKey).(Call)
	return c, ok
}
