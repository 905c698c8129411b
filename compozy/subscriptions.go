package compozy

import (
	"context"
	"crypto/rand"
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

// newBus is the connection for channels that are not the plugin's.
func newBus(client redis.UniversalClient, log *slog.Logger) *bus.Bus {
	return bus.New(client, bus.Options{
		Probe: "temporal-redis:compozy:probe:" + rand.Text(), ProbeEvery: time.Second, Timeout: 3 * time.Second,
		Op: "compozy: subscribe", Family: "events", Log: log,
	})
}

// subscribeTimeout bounds how long a subscription waits for Redis, beside its context.
const subscribeTimeout = 5 * time.Second

// Subscribe hears what is published on the channels from now on, until ctx ends or the
// adapter is closed; then the returned channel is closed.
func (n *NotificationSystem[M, X]) Subscribe(ctx context.Context, channels ...string) (<-chan M, error) {
	if len(channels) == 0 {
		return nil, n.notSubscribed(errors.New("at least one channel must be specified"))
	}
	return n.subscribe(ctx, func(s *hearing[M, X]) error {
		for _, channel := range channels {
			if strings.HasPrefix(channel, "\x00") {
				return fmt.Errorf("failed to confirm subscription: %q is no name of a channel", channel)
			}
			id, ok := strings.CutPrefix(channel, workflowChannel)
			if err := s.listen(ok, id, channel); err != nil {
				return fmt.Errorf("failed to confirm subscription: %w", err)
			}
		}
		return nil
	})
}

// SubscribePattern is Subscribe for the channels that match patterns, as in PSUBSCRIBE.
// Of channels workflow:<id> each event is heard once; of others, what comes while the
// connection is lost is not.
func (n *NotificationSystem[M, X]) SubscribePattern(ctx context.Context, patterns ...string) (<-chan M, error) {
	if len(patterns) == 0 {
		return nil, n.notSubscribed(errors.New("at least one pattern must be specified"))
	}
	return n.subscribe(ctx, func(s *hearing[M, X]) error {
		for _, pattern := range patterns {
			if err := s.listenPattern(pattern); err != nil {
				return fmt.Errorf("failed to confirm pattern subscription: %w", err)
			}
		}
		return nil
	})
}

// SubscribeToWorkflow hears the events of a workflow and its tasks.
func (n *NotificationSystem[M, X]) SubscribeToWorkflow(ctx context.Context, workflowID string) (<-chan M, error) {
	return n.Subscribe(ctx, workflowChannel+workflowID)
}

// SubscribeToTask hears what is published on task:<id>.
func (n *NotificationSystem[M, X]) SubscribeToTask(ctx context.Context, taskID string) (<-chan M, error) {
	return n.Subscribe(ctx, taskChannel+taskID)
}

// SubscribeToAllWorkflows hears the events of all workflows.
func (n *NotificationSystem[M, X]) SubscribeToAllWorkflows(ctx context.Context) (<-chan M, error) {
	return n.SubscribePattern(ctx, workflowChannel+"*")
}

// SubscribeToAllTasks hears what is published on task:<id> of any id.
func (n *NotificationSystem[M, X]) SubscribeToAllTasks(ctx context.Context) (<-chan M, error) {
	return n.SubscribePattern(ctx, taskChannel+"*")
}

func (n *NotificationSystem[M, X]) notSubscribed(err error) error {
	n.count(func(m *NotificationMetrics) { m.SubscribeErrors++ })
	return err
}

// subscribe makes a subscription; begin has it listen.
func (n *NotificationSystem[M, X]) subscribe(ctx context.Context, begin func(*hearing[M, X]) error) (<-chan M, error) {
	if !n.begin() {
		return nil, n.notSubscribed(errClosed)
	}
	s := &hearing[M, X]{system: n, out: make(chan M, 100), more: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, s.cancel)
	err := begin(s)
	if err != nil {
		s.cancel()
	}
	go func() {
		defer n.end()
		defer stop()
		s.run()
	}()
	if err != nil {
		return nil, n.notSubscribed(err)
	}
	return s.out, nil
}

// hearing is one subscription, to one channel or several.
type hearing[M, X any] struct {
	system *NotificationSystem[M, X]
	ctx    context.Context //nolint:containedctx // the subscription's own life
	cancel context.CancelFunc
	out    chan M

	registrations []*bus.Registration
	reading       sync.WaitGroup

	mu      sync.Mutex
	waiting []Message     // of channels that are Redis' own
	more    chan struct{} // there may be more of them
}

// maxWaiting bounds how far a reader of Redis' own channels may be behind.
const maxWaiting = 1000

// listen begins to hear one channel.
func (s *hearing[M, X]) listen(ofWorkflow bool, id, channel string) error {
	if !ofWorkflow {
		return s.wait(s.system.bus.Listen(channel, bus.Listener{
			Confirmed: func() {}, Message: func(payload string) { s.heard(channel, payload) },
		}))
	}
	sub, err := s.system.hub.Subscribe(s.ctx, id)
	if err != nil {
		return err
	}
	s.reading.Go(func() { s.read(sub.Events(), func(string) bool { return true }) })
	return nil
}

// listenPattern begins to hear the channels that match a pattern: those of workflows
// from the plugin, the others from Redis.
func (s *hearing[M, X]) listenPattern(pattern string) error {
	p, err := newGlob(pattern)
	if err != nil {
		return err
	}
	if p.workflows() {
		all, err := s.system.hub.SubscribeAll(s.ctx)
		if err != nil {
			return err
		}
		s.reading.Go(func() { s.read(all.Events(), p.matches) })
	}
	if !p.others() {
		return nil
	}
	return s.wait(s.system.bus.ListenPattern(pattern, bus.Listener{Confirmed: func() {}, From: func(channel, payload string) {
		if !strings.HasPrefix(channel, workflowChannel) {
			s.heard(channel, payload)
		}
	}}))
}

// wait waits until a registration is confirmed.
func (s *hearing[M, X]) wait(r *bus.Registration) error {
	s.registrations = append(s.registrations, r)
	ctx, cancel := context.WithTimeout(s.ctx, subscribeTimeout)
	defer cancel()
	return r.Wait(ctx)
}

// read passes on the events of the plugin, from now on: snapshots are not news.
func (s *hearing[M, X]) read(events <-chan notifier.Event, wanted func(channel string) bool) {
	for ev := range events {
		if channel := workflowChannel + ev.WorkflowID; !ev.Snapshot && wanted(channel) {
			s.pass(Message{Channel: channel, Payload: payloadOf(ev), Time: time.Now()})
		}
	}
}

// payloadOf is an event in Compozy's form.
func payloadOf(ev notifier.Event) []byte {
	if ev.Kind == notifier.KindProgress && ev.RunID == "" && ev.Data != nil {
		return ev.Data // published by the adapter
	}
	e := WorkflowEvent{TaskID: ev.TaskID, WorkflowID: ev.WorkflowID, Event: string(ev.Kind), Status: string(ev.Status), Timestamp: ev.Time, Data: make(map[string]any)}
	if ev.Data != nil {
		e.Data["data"] = ev.Data
	}
	for name, value := range map[string]string{"reason": ev.Reason, "run_id": ev.RunID, "previous_status": string(ev.Previous)} {
		if value != "" {
			e.Data[name] = value
		}
	}
	if ev.Attempt > 0 {
		e.Data["attempt"] = ev.Attempt
	}
	if ev.Final {
		e.Data["final"] = true
	}
	body, err := json.Marshal(e)
	if err != nil { // Data is JSON, or it would not have been published
		return []byte("{}")
	}
	return body
}

// heard takes a message of a channel that is Redis' own. It does not block.
func (s *hearing[M, X]) heard(channel, payload string) {
	s.mu.Lock()
	s.waiting = append(s.waiting, Message{Channel: channel, Payload: []byte(payload), Time: time.Now()})
	dropped := len(s.waiting) - maxWaiting
	if dropped > 0 {
		s.waiting = s.waiting[dropped:]
	}
	s.mu.Unlock()
	if dropped > 0 {
		s.system.count(func(m *NotificationMetrics) { m.DroppedMessages += int64(dropped) })
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *hearing[M, X]) pass(m Message) {
	select {
	case s.out <- s.system.options.Message(m):
		s.system.count(func(m *NotificationMetrics) { m.MessagesReceived++ })
	case <-s.ctx.Done():
	}
}

// run passes on what was heard, until the end.
func (s *hearing[M, X]) run() {
	defer close(s.out)
	defer s.reading.Wait()
	for s.ctx.Err() == nil {
		select {
		case <-s.more:
		case <-s.ctx.Done():
		}
		s.mu.Lock()
		waiting := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, m := range waiting {
			s.pass(m)
		}
	}
	for _, r := range s.registrations {
		r.Close()
	}
}
