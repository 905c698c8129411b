package notifier

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Limits of one round trip.
const (
	maxBatch      = 64
	maxBatchBytes = 256 << 10
)

// send is the loop of one sender.
func (p *BackgroundPublisher) send() {
	for {
		select {
		case <-p.queue.signal:
		case <-p.ctx.Done():
			return
		}
		for p.sendNext() {
		}
	}
}

// sendNext sends one batch. It reports false when there is none, or no more
// time.
func (p *BackgroundPublisher) sendNext() bool {
	open, err := p.circuit.gate(p.ctx)
	if err != nil {
		return false
	}
	if open && !p.answers(p.circuit, "") {
		return p.ctx.Err() == nil
	}
	b, ok := p.queue.take(maxBatch, maxBatchBytes)
	if !ok {
		return false
	}
	if c, admitted := p.admit(b); admitted {
		p.deliver(b, c)
		c.tried()
	}
	return true
}

// deliver puts a batch into the log and settles it with the queue.
func (p *BackgroundPublisher) deliver(b batch, c *circuit) {
	workflowID := b.mailbox.workflowID
	items := b.items
	if b.uncertain && (len(items) > 0 || b.tried.dropped > 0) {
		var last int64
		err := p.try(p.ctx, func(ctx context.Context) (err error) {
			last, err = p.sink.lastNumber(ctx, workflowID, p.source)
			return err
		})
		if err != nil {
			p.settle(b, c, err)
			return
		}
		if b.tried.dropped > 0 && b.tried.number <= last {
			p.queue.told(&b)
		}
		for len(items) > 0 && items[0].number <= last {
			items = items[1:]
		}
		b.items = items
		// Readers take what has a number that they have seen for a repeat.
		b.gap.number = last + 1
		if len(items) > 0 {
			b.gap.number = items[0].number - 1
		}
	}
	records := p.records(workflowID, b.gap, items)
	b.tried = b.gap
	if len(records) == 0 {
		p.settle(b, c, nil)
		return
	}
	err := p.try(traced(p.ctx, records), func(ctx context.Context) error {
		_, err := p.sink.append(ctx, workflowID, records)
		return err
	})
	if err == nil {
		p.tel.Metrics.PubSubMsgs.WithLabelValues(telemetry.Published).Add(float64(len(records)))
		p.enlist(workflowID, records)
	}
	p.settle(b, c, err)
}

// enlist has it noted which workflows are active.
func (p *BackgroundPublisher) enlist(workflowID string, records []record) {
	p.roll.take(workflowID, records, time.Now(), min(enlistEvery, p.options.Retention/2))
}

// try runs one round trip within the time it may take.
func (p *BackgroundPublisher) try(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	return do(ctx)
}

// settle decides what becomes of a batch.
func (p *BackgroundPublisher) settle(b batch, c *circuit, err error) {
	class := rediserr.Classify(p.ctx, err)
	switch {
	case class == rediserr.OK:
		p.succeeded(c)
		p.queue.done(b)
	case isOutage(class):
		p.failed(c, err)
		p.queue.giveBack(b)
	default:
		// It would fail again, and must not hold up the others. A client that
		// its owner closed too early ends here as well.
		p.tel.Metrics.PublishErrors.WithLabelValues(class.String()).Inc()
		p.tel.Metrics.PublishDrops.Add(float64(len(b.items)))
		if len(b.items) > 0 { // else it was to tell of those of which that was said before
			p.tel.Log.Error("events dropped: they cannot be published",
				"op", "publish", "family", family, "events", len(b.items), "error", p.wrap(err))
		}
		p.queue.refuse(b)
	}
}

// succeeded takes note of the end of an outage.
func (p *BackgroundPublisher) succeeded(c *circuit) {
	if closed, after := c.succeeded(); closed {
		p.tel.Log.Info("publishing again", "op", "publish", "family", family, "after", after)
		p.queue.resume()
	}
}

// failed takes note of an outage, and says so once.
func (p *BackgroundPublisher) failed(c *circuit, err error) {
	if p.ctx.Err() != nil {
		return
	}
	class := rediserr.Classify(p.ctx, err)
	p.tel.Metrics.PublishErrors.WithLabelValues(class.String()).Inc()
	err = p.wrap(err)
	if !c.failed(err) {
		return
	}
	level := slog.LevelWarn
	if class == rediserr.Denied {
		level = slog.LevelError
	}
	p.tel.Log.Log(p.ctx, level, "publishing paused; events are kept", "op", "publish", "family", family, "error", err)
}

// isOutage reports whether an error of an append passes by itself or by an
// operator, so that the events are worth keeping.
func isOutage(class rediserr.Class) bool {
	return class == rediserr.Unavailable || class == rediserr.Denied || class == rediserr.Canceled
}

func (p *BackgroundPublisher) wrap(err error) error {
	return rediserr.Wrap(p.ctx, "notifier: publish", family, err)
}

// records encodes a batch, with the gap to be told in front.
func (p *BackgroundPublisher) records(workflowID string, lost gap, items []*queued) []record {
	records := make([]record, 0, len(items)+1)
	if lost.dropped > 0 {
		ev := &Event{
			Kind:       KindGap,
			WorkflowID: workflowID,
			Reason:     GapDropped,
			Time:       time.Now().UTC(),
			Data:       json.RawMessage(`{"dropped":` + strconv.Itoa(lost.dropped) + `}`),
		}
		records = p.encode(records, ev, "", lost.number)
	}
	for _, it := range items {
		records = p.encode(records, &it.event, it.key, it.number)
	}
	return records
}

func (p *BackgroundPublisher) encode(records []record, ev *Event, key string, number int64) []record {
	e := entry{Event: *ev, Number: number}
	if number > 0 {
		e.Source = p.source
	}
	body, err := e.encode()
	if err != nil { // Publish has checked all that can go wrong
		p.tel.Metrics.PublishDrops.Inc()
		p.tel.Log.Error("event dropped", "op", "publish", "family", family, "error", err)
		return records
	}
	return append(records, record{event: ev, key: key, body: body})
}

// traced makes the round trip part of the trace of what happened.
func traced(ctx context.Context, records []record) context.Context {
	for _, r := range records {
		if r.event.Traceparent != "" {
			return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": r.event.Traceparent})
		}
	}
	return ctx
}
