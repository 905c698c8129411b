package notifier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/bus"
	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Hub is a Subscriber: one Redis pub/sub connection for all its subscriptions,
// and one reading of the log per workflow id. Safe for concurrent use.
type Hub struct {
	options SubscriberOptions
	log     *eventLog
	bus     *bus.Bus
	tel     *telemetry.Telemetry

	ctx     context.Context
	stop    context.CancelCauseFunc
	running sync.WaitGroup // feeds and subscriptions
	failing failures       // the last readings that failed

	lingering, idling time.Duration // of SubscribeAll

	mu    sync.Mutex
	feeds map[string]*feed // by workflow id
}

var _ Subscriber = (*Hub)(nil)

// NewSubscriber returns a hub on client, which stays the caller's: Close does
// not close it. It does no network I/O; it connects with the first subscription
// and disconnects after the last. The error wraps ErrInvalidOptions.
func NewSubscriber(client redis.UniversalClient, options SubscriberOptions) (*Hub, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	if client == nil {
		return nil, fmt.Errorf("notifier: %w: NewSubscriber needs a client", ErrInvalidOptions)
	}
	sharded, err := clusterOf(options.Sharded, client)
	if err != nil {
		return nil, err
	}
	space, err := keys.NewSpace(options.Namespace, options.ChannelPrefix)
	if err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	tel, err := newTelemetry(options.Logger, options.Registerer, options.TracerProvider)
	if err != nil {
		return nil, err
	}
	h := &Hub{
		options: options,
		log:     &eventLog{client: client, space: space},
		tel:     tel,
		feeds:   make(map[string]*feed),

		lingering: lingering,
		idling:    idling,
		bus: bus.New(client, bus.Options{
			Probe:      space.Probe(rand.Text()),
			ProbeEvery: options.ProbeEvery,
			Timeout:    options.Timeout,
			Op:         "notifier: subscribe",
			Family:     family,
			Log:        tel.Log,
			Sharded:    sharded,
		}),
	}
	h.ctx, h.stop = context.WithCancelCause(context.Background())
	return h, nil
}

// Subscribe implements Subscriber. It returns once the channel is subscribed
// and the log has been read; an outage is waited for until ctx ends, at most
// ConnectTimeout. From then on the subscription recovers by itself from
// whatever happens to Redis.
func (h *Hub) Subscribe(ctx context.Context, workflowID string, opts ...SubscribeOption) (*Subscription, error) {
	var settings subscribeSettings
	for _, opt := range opts {
		opt(&settings)
	}
	if err := keys.Check("workflow id", workflowID); err != nil {
		return nil, fmt.Errorf("notifier: subscribe: %w: %w", ErrInvalidOptions, err)
	}
	if settings.from.id < 0 {
		return nil, fmt.Errorf("notifier: subscribe: %w: After has the id %d; use 0 or more", ErrInvalidOptions, settings.from.id)
	}
	s, err := h.join(ctx, workflowID, settings)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(s.ctx, h.options.ConnectTimeout)
	defer cancel()
	if err := s.connect(waiting); err != nil {
		s.cancel(err)
		s.release()
		s.feed.leave(s)
		h.running.Done()
		return nil, h.refused(ctx, err)
	}
	go s.run()
	return s, nil
}

// refused is the error of a subscription that could not begin.
func (h *Hub) refused(ctx context.Context, err error) error {
	switch {
	case h.ctx.Err() != nil:
		return fmt.Errorf("notifier: subscribe: %w", ErrClosed)
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("notifier: subscribe: %w", context.Cause(ctx))
	}
	known, _ := errors.AsType[*rediserr.Error](err)
	gaveUp := known != nil && known.Class == rediserr.Canceled && ctx.Err() == nil // we did, and not the caller
	if gaveUp || (errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable)) {
		return &rediserr.Error{Op: "notifier: subscribe", Family: family, Class: rediserr.Unavailable, Err: err}
	}
	return rediserr.Wrap(ctx, "notifier: subscribe", family, err)
}

// join adds a subscription to the feed of its workflow id.
func (h *Hub) join(ctx context.Context, workflowID string, settings subscribeSettings) (*Subscription, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return nil, fmt.Errorf("notifier: subscribe: %w", ErrClosed)
	}
	f := h.feeds[workflowID]
	if f == nil {
		f = newFeed(h, workflowID)
		h.feeds[workflowID] = f
		h.running.Go(f.run)
	}
	s := newSubscription(ctx, f, settings)
	f.mu.Lock()
	f.subscriptions[s] = struct{}{}
	if settings.source != nil {
		f.source = settings.source
	}
	f.mu.Unlock()
	h.running.Add(1)
	return s, nil
}

// Connected tells whether Redis is there for the subscriptions: the pub/sub connection
// and the last reading of each log. It is true while nobody subscribes.
func (h *Hub) Connected() bool { return h.bus.Connected() && !h.failing.any() }

// leave takes a subscription out, and ends the feed with its last one.
func (f *feed) leave(s *Subscription) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.mu.Lock()
	delete(f.subscriptions, s)
	last := len(f.subscriptions) == 0
	f.mu.Unlock()
	if last && f.hub.feeds[f.workflowID] == f {
		delete(f.hub.feeds, f.workflowID)
		f.registration.Close()
		f.stop()
		f.hub.failing.forget(f) // nobody reads
	}
}

// Close ends all subscriptions with ErrClosed and the connection, and waits
// until nothing runs any more: at most Timeout, if Redis does not answer. It is
// idempotent.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.stop(fmt.Errorf("notifier: subscriber: %w", ErrClosed))
	h.mu.Unlock()
	h.bus.Close()
	h.running.Wait()
	return nil
}
