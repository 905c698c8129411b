package compozy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/temporal-redis/notifier"
)

// Envelope has the fields of Compozy's streaming.Envelope.
type Envelope[ID ~string] struct {
	ID        int64
	ExecID    ID
	Type      string
	Timestamp time.Time
	Data      json.RawMessage
}

// StreamOptions make a host's own types of what the adapter has. Both functions are
// required.
type StreamOptions[ID ~string, E, V any] struct {
	// Event is what the host's streaming.Event holds.
	Event func(E) (kind string, data any)
	// Envelope makes the host's streaming.Envelope.
	Envelope func(Envelope[ID]) V
}

// StreamPublisher has the method set of Compozy's streaming.Publisher, with the host's
// core.ID, Event and Envelope. Its events stand in the log of the execution beside the
// plugin's, with rising ids. Safe for concurrent use.
type StreamPublisher[ID ~string, E, V any] struct {
	publisher *notifier.BackgroundPublisher
	hub       *notifier.Hub
	options   StreamOptions[ID, E, V]
}

// NewStreamPublisher puts a publisher and a hub behind Compozy's interface; both stay
// the caller's. It panics if one of them, or a function of the options, is missing.
func NewStreamPublisher[ID ~string, E, V any](publisher *notifier.BackgroundPublisher, hub *notifier.Hub, o StreamOptions[ID, E, V]) *StreamPublisher[ID, E, V] {
	if publisher == nil || hub == nil || o.Event == nil || o.Envelope == nil {
		panic("compozy: NewStreamPublisher needs a publisher, a hub and both functions; see worker.Plugin.Publisher and Subscriber")
	}
	return &StreamPublisher[ID, E, V]{publisher, hub, o}
}

// streamed is what stands in the data of an event of the adapter.
type streamed struct {
	Type string          `json:"stream_type"`
	Data json.RawMessage `json:"data"`
}

// Publish puts an event into the execution's log and tells subscribers. Errors: Compozy's
// texts for what is missing, and those of notifier.BackgroundPublisher.Append.
func (p *StreamPublisher[ID, E, V]) Publish(ctx context.Context, execID ID, event E) (V, error) {
	var none V
	kind, data := p.options.Event(event)
	switch {
	case execID == "":
		return none, errors.New("streaming: exec id is required")
	case kind == "":
		return none, errors.New("streaming: event type is required")
	}
	payload, err := json.Marshal(data)
	if err != nil {
		return none, fmt.Errorf("streaming: marshal payload: %w", err)
	}
	body, err := json.Marshal(streamed{kind, payload})
	if err != nil {
		return none, fmt.Errorf("streaming: marshal payload: %w", err)
	}
	now := time.Now().UTC()
	id, err := p.publisher.Append(ctx, notifier.Event{Kind: notifier.KindProgress, WorkflowID: string(execID), Time: now, Data: body})
	if err != nil {
		return none, fmt.Errorf("streaming: publish event: %w", err)
	}
	return p.options.Envelope(Envelope[ID]{ID: id, ExecID: execID, Type: kind, Timestamp: now, Data: payload}), nil
}

// Replay gives the events of the log after an id, the oldest first, limit at most (0:
// all that it holds); those of the plugin have the type status, progress or gap and the
// whole notifier.Event as data. Errors are those of notifier.Hub.Read.
func (p *StreamPublisher[ID, E, V]) Replay(ctx context.Context, execID ID, afterID int64, limit int) ([]V, error) {
	events, err := p.hub.Read(ctx, string(execID), afterID, limit)
	if err != nil {
		return nil, fmt.Errorf("streaming: fetch backlog: %w", err)
	}
	envelopes := make([]V, 0, len(events))
	for _, ev := range events {
		envelopes = append(envelopes, p.options.Envelope(envelopeOf(execID, ev)))
	}
	return envelopes, nil
}

func envelopeOf[ID ~string](execID ID, ev notifier.Event) Envelope[ID] {
	e := Envelope[ID]{ID: ev.ID, ExecID: execID, Type: string(ev.Kind), Timestamp: ev.Time}
	var s streamed
	if ev.Kind == notifier.KindProgress && json.Unmarshal(ev.Data, &s) == nil && s.Type != "" {
		e.Type, e.Data = s.Type, s.Data
		return e
	}
	if body, err := json.Marshal(ev); err == nil {
		e.Data = body
	}
	return e
}

// Channel is the channel on which an execution's events are published.
func (p *StreamPublisher[ID, E, V]) Channel(execID ID) string {
	return p.publisher.Channel(string(execID))
}
