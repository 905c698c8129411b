package notifier

import (
	"context"
	"fmt"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Append puts an event into the log before it returns, and gives its id: for who needs
// that, and for nobody else. It does not wait for what Publish has in its queue. Errors:
// ErrInvalidEvent; ErrUnavailable, after which the event may be in the log all the same;
// ErrDenied; ErrClosed; ctx's.
func (p *BackgroundPublisher) Append(ctx context.Context, ev Event) (id int64, err error) {
	if ev.Kind == "" {
		ev.Kind = KindStatus
	}
	if err := p.checkEvent(&ev); err != nil {
		return 0, err
	}
	if p.ctx.Err() != nil {
		return 0, fmt.Errorf("notifier: append: %w", ErrClosed)
	}
	normalize(&ev)
	records := p.encode(nil, &ev, ev.TaskKey(), 0)
	err = p.try(ctx, func(ctx context.Context) (err error) {
		id, err = p.sink.append(ctx, ev.WorkflowID, records)
		return err
	})
	if err != nil {
		return 0, rediserr.Wrap(ctx, "notifier: append", family, err)
	}
	p.tel.Metrics.PubSubMsgs.WithLabelValues(telemetry.Published).Inc()
	p.enlist(ev.WorkflowID, records)
	return id, nil
}

// Channel is the pub/sub channel of a workflow id.
func (p *BackgroundPublisher) Channel(workflowID string) string {
	space, err := keys.NewSpace(p.options.Namespace, p.options.ChannelPrefix)
	if err != nil { // NewPublisher has checked it
		return ""
	}
	return space.Channel(workflowID)
}

// Read gives the events that the log of a workflow id holds after an id, the oldest
// first, limit at most (0: all). What was told twice is left out. Errors:
// ErrInvalidOptions, ErrUnavailable, ErrDenied, ErrClosed, or ctx's.
func (h *Hub) Read(ctx context.Context, workflowID string, after int64, limit int) ([]Event, error) {
	if err := keys.Check("workflow id", workflowID); err != nil {
		return nil, fmt.Errorf("notifier: read: %w: %w", ErrInvalidOptions, err)
	}
	if h.ctx.Err() != nil {
		return nil, fmt.Errorf("notifier: read: %w", ErrClosed)
	}
	bounded, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	v, err := h.log.read(bounded, workflowID, 0, false)
	if err != nil {
		return nil, rediserr.Wrap(ctx, "notifier: read log", family, err)
	}
	entries, broken := readEntries(v, newHistory())
	h.unreadable(broken)
	var events []Event
	for _, e := range entries {
		if !e.skip && e.event.ID > after && (limit <= 0 || len(events) < limit) {
			events = append(events, e.event)
		}
	}
	return events, nil
}
