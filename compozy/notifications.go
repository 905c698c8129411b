package compozy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/bus"
	"github.com/compozy/temporal-redis/notifier"
)

// Message is what subscribers get, as Compozy's cache.Message.
type Message struct {
	Channel string
	Payload []byte
	Time    time.Time // when it was received
}

// NotificationMetrics are the fields of Compozy's cache.NotificationMetrics.
type NotificationMetrics struct {
	MessagesPublished, MessagesReceived int64
	PublishErrors, SubscribeErrors      int64
	ActiveChannels                      int // subscriptions
	AverageLatency                      time.Duration
	DroppedMessages                     int64
}

// WorkflowEvent is the payload on workflow:<id>, as Compozy's cache.WorkflowEvent and
// cache.TaskEvent: what was published by the adapter, or an event of the plugin's.
type WorkflowEvent struct {
	TaskID     string         `json:"task_id,omitempty"`
	WorkflowID string         `json:"workflow_id,omitempty"`
	Event      string         `json:"event"`  // of the plugin's: status, progress or gap
	Status     string         `json:"status"` // of the plugin's: a notifier.Status
	Data       map[string]any `json:"data,omitempty"`
	Timestamp  time.Time      `json:"timestamp"`
}

// NotificationOptions make a host's own types of what the adapter has. Both functions
// are required.
type NotificationOptions[M, X any] struct {
	// Message makes the host's cache.Message.
	Message func(Message) M
	// Metrics makes the host's cache.NotificationMetrics.
	Metrics func(NotificationMetrics) X
	// Logger receives losses and returns of the connection. Defaults to
	// slog.Default().
	Logger *slog.Logger
}

// NotificationSystem has the method set of Compozy's cache.NotificationSystem, with
// the host's Message as M and its NotificationMetrics as X. Safe for concurrent use.
//
// Channels workflow:<id> are the plugin's: what is published there goes to the log of
// the workflow id, and who subscribes hears of each event once, however slow it is, in
// Compozy's form (WorkflowEvent). Other channels are Redis' own, where a message that
// nobody hears is gone; a reader that is more than 1,000 messages behind loses the
// oldest, which DroppedMessages counts.
type NotificationSystem[M, X any] struct {
	client    redis.UniversalClient
	publisher notifier.Publisher
	hub       *notifier.Hub
	options   NotificationOptions[M, X]
	bus       *bus.Bus

	ctx     context.Context //nolint:containedctx // the adapter's own life
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	metrics NotificationMetrics
}

// The names of channels in Compozy.
const (
	workflowChannel = "workflow:"
	taskChannel     = "task:"
)

// NewNotificationSystem puts a publisher and a hub behind Compozy's interface. client is
// for channels other than workflow:<id>. All three stay the caller's. It panics if one
// of them, or a function of the options, is missing:
//
//	notifications := compozy.NewNotificationSystem(client, publisher, hub, compozy.NotificationOptions[cache.Message, cache.NotificationMetrics]{...})
func NewNotificationSystem[M, X any](client redis.UniversalClient, publisher notifier.Publisher, hub *notifier.Hub, o NotificationOptions[M, X]) *NotificationSystem[M, X] {
	if client == nil || publisher == nil || hub == nil || o.Message == nil || o.Metrics == nil {
		panic("compozy: NewNotificationSystem needs a client, a publisher, a hub and both functions; see worker.Plugin.Redis, Publisher and Subscriber")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	n := &NotificationSystem[M, X]{client: client, publisher: publisher, hub: hub, options: o, bus: newBus(client, o.Logger)}
	n.ctx, n.stop = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	return n
}

// Publish sends message, as JSON, to a channel. To workflow:<id> it goes in the
// background, and an outage of Redis is no error; to other channels it is sent before
// Publish returns.
func (n *NotificationSystem[M, X]) Publish(ctx context.Context, channel string, message any) error {
	start := time.Now()
	payload, err := json.Marshal(message)
	if err != nil {
		return n.notPublished(fmt.Errorf("failed to marshal message: %w", err))
	}
	if id, ok := strings.CutPrefix(channel, workflowChannel); ok {
		err = n.publisher.Publish(notifier.Event{Kind: notifier.KindProgress, WorkflowID: id, Data: payload})
	} else {
		err = n.client.Publish(ctx, channel, payload).Err()
	}
	if err != nil {
		return n.notPublished(fmt.Errorf("failed to publish message: %w", err))
	}
	n.count(func(m *NotificationMetrics) {
		m.MessagesPublished++
		latency := time.Since(start)
		if m.AverageLatency != 0 {
			latency = (m.AverageLatency + latency) / 2
		}
		m.AverageLatency = latency
	})
	return nil
}

func (n *NotificationSystem[M, X]) notPublished(err error) error {
	n.count(func(m *NotificationMetrics) { m.PublishErrors++ })
	return err
}

// PublishWorkflowEvent publishes a WorkflowEvent on workflow:<id>.
func (n *NotificationSystem[M, X]) PublishWorkflowEvent(ctx context.Context, workflowID, event, status string, data map[string]any) error {
	return n.Publish(ctx, workflowChannel+workflowID, WorkflowEvent{
		WorkflowID: workflowID, Event: event, Status: status, Data: data, Timestamp: time.Now(),
	})
}

// PublishTaskEvent publishes a WorkflowEvent of a task on task:<id>, and on
// workflow:<id> if workflowID is not "": the one does not wait for the other.
func (n *NotificationSystem[M, X]) PublishTaskEvent(ctx context.Context, taskID, workflowID, event, status string, data map[string]any) error {
	ev := WorkflowEvent{TaskID: taskID, WorkflowID: workflowID, Event: event, Status: status, Data: data, Timestamp: time.Now()}
	var err error
	if workflowID != "" {
		err = n.Publish(ctx, workflowChannel+workflowID, ev)
	}
	return errors.Join(err, n.Publish(ctx, taskChannel+taskID, ev))
}

// GetMetrics tells what the adapter did so far.
func (n *NotificationSystem[M, X]) GetMetrics() X {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.options.Metrics(n.metrics)
}

// Close ends all subscriptions, and waits for that. Client, publisher and hub stay
// open. It is idempotent.
func (n *NotificationSystem[M, X]) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.running.Wait()
	n.bus.Close()
	return nil
}

// errClosed is what a closed adapter answers.
var errClosed = errors.New("notification system is closed")

// begin counts a subscription in, unless the adapter was closed.
func (n *NotificationSystem[M, X]) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.metrics.ActiveChannels++
	n.running.Add(1)
	return true
}

func (n *NotificationSystem[M, X]) end() {
	n.count(func(m *NotificationMetrics) { m.ActiveChannels-- })
	n.running.Done()
}

func (n *NotificationSystem[M, X]) count(change func(*NotificationMetrics)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.metrics)
}
