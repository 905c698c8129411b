package interceptors

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/propagation"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/internal/excerpt"
	"github.com/compozy/temporal-redis/notifier"
)

// maxReasonBytes bounds the reason in an event; the whole error is in
// Temporal's history.
const maxReasonBytes = 512

// publish hands ev to the background publisher. It cannot fail the caller: an
// event that is not valid is logged and left out.
func publish(ctx context.Context, o *Options, p notifier.Publisher, ev notifier.Event) {
	if p == nil {
		return
	}
	if err := p.Publish(ev); err != nil {
		o.Logger.WarnContext(ctx, "event not published", "op", "publish", "family", "events",
			"kind", string(ev.Kind), "error", err)
	}
}

// traceparent is the W3C trace context of ctx, "" when there is none.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// reasonOf is the start of an error's text, on one line. Temporal's wrappers
// repeat the text of what they wrap; the message of the outermost
// ApplicationError says it once.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		text = app.Message()
	}
	return excerpt.Line(text, maxReasonBytes)
}
