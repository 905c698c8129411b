package notifier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// BackgroundPublisher is a Publisher with a bounded queue and senders of its
// own. Events of one workflow id reach the log in the order of Publish; those
// that wait together go in one round trip. While Redis is away it keeps what
// the buffer holds and tries again, at most a second apart. Safe for concurrent
// use.
type BackgroundPublisher struct {
	options PublisherOptions
	sink    sink
	tel     *telemetry.Telemetry
	source  string
	queue   *queue
	circuit *circuit // without a Cluster
	shards  *shards  // of a Cluster
	roll    *roll

	ctx     context.Context // ends the senders
	stop    context.CancelFunc
	senders sync.WaitGroup
	closing sync.Once
	closed  error // result of the first Close, once it is over
	over    chan struct{}
}

var _ Publisher = (*BackgroundPublisher)(nil)

// sink is what the senders write to: an eventLog, or a test's.
type sink interface {
	append(ctx context.Context, workflowID string, records []record) (last int64, err error)
	lastNumber(ctx context.Context, workflowID, source string) (int64, error)
	enlist(ctx context.Context, due map[string]listing) error // by workflow id
	ping(ctx context.Context, workflowID string) error
	shard(ctx context.Context, workflowID string) string
}

// NewPublisher returns a publisher on client, which stays the caller's: Close
// does not close it. It does no network I/O. The error wraps ErrInvalidOptions.
func NewPublisher(client redis.UniversalClient, options PublisherOptions) (*BackgroundPublisher, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	if client == nil {
		return nil, fmt.Errorf("notifier: %w: NewPublisher needs a client", ErrInvalidOptions)
	}
	if _, err := clusterOf(options.Sharded, client); err != nil {
		return nil, err
	}
	space, err := keys.NewSpace(options.Namespace, options.ChannelPrefix)
	if err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	return newPublisher(&eventLog{
		client:    client,
		sharded:   options.Sharded,
		space:     space,
		length:    options.LogLength,
		tasks:     options.SnapshotTasks,
		retention: options.Retention,
	}, options)
}

func newPublisher(s sink, options PublisherOptions) (*BackgroundPublisher, error) {
	tel, err := newTelemetry(options.Logger, options.Registerer, options.TracerProvider)
	if err != nil {
		return nil, err
	}
	p := &BackgroundPublisher{
		options: options,
		sink:    s,
		tel:     tel,
		source:  rand.Text()[:16],
		circuit: newCircuit(),
		shards:  newShards(),
		roll:    newRoll(),
		over:    make(chan struct{}),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.queue = newQueue(options.Buffer, options.Concurrency,
		func(change int) { tel.Metrics.PublishBuffer.Add(float64(change)) },
		func(dropped int) { tel.Metrics.PublishDrops.Add(float64(dropped)) },
	)
	for range options.Concurrency {
		p.senders.Go(p.send)
	}
	p.senders.Go(p.enroll)
	return p, nil
}

// Publish implements Publisher. It stamps Time when it is zero.
func (p *BackgroundPublisher) Publish(ev Event) error {
	if ev.Kind == "" {
		ev.Kind = KindStatus
	}
	if err := p.checkEvent(&ev); err != nil {
		return err
	}
	normalize(&ev)
	if !p.queue.put(ev) {
		return fmt.Errorf("notifier: publish: %w", ErrClosed)
	}
	return nil
}

func (p *BackgroundPublisher) checkEvent(ev *Event) error { return ev.check(p.options.MaxDataBytes) }

// Flush waits until every event published before the call is in Redis or was
// dropped. Past ctx (DrainTimeout, if it has no deadline) the error tells how
// many are left, and wraps ctx's error and the cause that keeps them; they are
// sent later all the same.
func (p *BackgroundPublisher) Flush(ctx context.Context) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	return p.flush(ctx, "flush")
}

func (p *BackgroundPublisher) flush(ctx context.Context, op string) error {
	upTo := p.queue.mark()
	defer p.queue.unmark()
	for {
		left, changed := p.queue.pending(upTo)
		if left == 0 {
			p.settleRoll(ctx)
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("notifier: %s: %d events are not in Redis: %w",
				op, left, errors.Join(context.Cause(ctx), p.circuit.cause(), p.shards.cause()))
		case <-p.ctx.Done():
			return fmt.Errorf("notifier: %s: %d events are not in Redis: %w", op, left, ErrClosed)
		}
	}
}

// settleRoll waits until it is noted which workflows are active, if that is possible:
// it is a hint.
func (p *BackgroundPublisher) settleRoll(ctx context.Context) {
	since := 0
	for {
		changed := p.roll.settled(&since)
		if changed == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// Close refuses further events, flushes like Flush, and ends the senders. What
// is left past ctx is lost and counted as dropped; the error tells how much. A
// command under way then ends by itself within Timeout. Every call waits for
// the first one and returns its result.
func (p *BackgroundPublisher) Close(ctx context.Context) error {
	p.closing.Do(func() {
		defer close(p.over)
		ctx, cancel := p.bounded(ctx)
		defer cancel()
		p.queue.close()
		p.closed = p.flush(ctx, "close")
		p.stop()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.senders.Wait()
		}()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		if lost := p.queue.abandon(); lost > 0 {
			p.tel.Metrics.PublishDrops.Add(float64(lost))
			p.tel.Log.Error("events lost at shutdown", "op", "close", "family", family, "events", lost)
		}
	})
	<-p.over
	return p.closed
}

func (p *BackgroundPublisher) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, p.options.DrainTimeout, fmt.Errorf("%w of DrainTimeout", context.DeadlineExceeded))
}
