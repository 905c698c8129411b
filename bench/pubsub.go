//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
)

// groupPubSub is the group of everything about events.
const groupPubSub = "pubsub"

// listeners is how many subscribers hear each message.
const listeners = 50

// pubSubRows are events on their way to subscribers.
func pubSubRows() []harness.Row {
	const ours = "ours: one publisher and one Hub with 50 subscriptions to one workflow, where each event also goes to the log and the snapshot; "
	return []harness.Row{
		{
			Key: "pubsub_p99_vs_goredis", Group: groupPubSub, Bar: harness.AtMost(0.6),
			How: "p99 from publish to handler, 1,000 messages per second, 50 subscribers; " + ours + "theirs: go-redis Publish, and Subscribe and Channel for each subscriber",
			Run: func(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
				rounds, err := broadcast{messages: 1000, every: time.Millisecond, theirs: goRedisRadio(1)}.run(ctx, lab)
				return harness.Tail(rounds), err
			},
		},
		fanout("pubsub_fanout_vs_goredis", harness.AtLeast(10), ours+"theirs: go-redis Publish, one message a call, and Subscribe and Channel for each subscriber", goRedisRadio(1)),
		fanout("pubsub_fanout_vs_rueidis", harness.AtLeast(2), ours+"theirs: rueidis PUBLISH, one message a call, and Receive for each subscriber on one client", rueidisRadio(1)),
		fanout("pubsub_fanout_vs_goredis_pipelined", harness.Bar{}, ours+"theirs: pubsub_fanout_vs_goredis with pipelines of 64 messages", goRedisRadio(64)),
		fanout("pubsub_fanout_vs_rueidis_pipelined", harness.Bar{}, ours+"theirs: pubsub_fanout_vs_rueidis with pipelines of 64 messages", rueidisRadio(64)),
		{
			Key: "publish_vs_set", Group: groupPubSub, Bar: harness.AtMost(2),
			How: "p50 of one event, 1 caller; ours: Append (sequence, log, snapshot, PUBLISH, times to live); theirs: SET EX of as many bytes",
			Run: runPublish,
		},
	}
}

// fanout is a row about how much is delivered: one goroutine publishes.
func fanout(key string, bar harness.Bar, how string, theirs studio) harness.Row {
	return harness.Row{
		Key: key, Group: groupPubSub, Bar: bar,
		How: "messages delivered per second to 50 subscribers in all, from one goroutine that publishes; " + how,
		Run: func(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
			rounds, err := broadcast{messages: 5000, theirs: theirs}.run(ctx, lab)
			return harness.Throughput(rounds), err
		},
	}
}

// radio is one side: it sends messages, and each of its listeners calls heard.
type radio struct {
	// send sends messages, of which only their number counts; they may be under way
	// when it returns.
	send func(ctx context.Context, n int) error
	end  func()
}

// studio makes a radio. heard is told which listener heard a message, and when that
// was sent.
type studio func(ctx context.Context, lab *harness.Lab, server *redistest.Server, heard func(listener int, sent time.Time), failed func(error)) (radio, error)

// broadcast compares two radios.
type broadcast struct {
	messages int
	every    time.Duration // 0: as fast as they go
	theirs   studio
}

func (b broadcast) run(ctx context.Context, lab *harness.Lab) ([]harness.Round, error) {
	b.messages = lab.Size(b.messages, b.messages/20)
	var rounds []harness.Round
	for i := range lab.Rounds() + 1 { // the first warms up
		var round harness.Round
		sides := []func() error{
			func() (err error) { round.Ours, err = b.side(ctx, lab, ourRadio); return err },
			func() (err error) { round.Theirs, err = b.side(ctx, lab, b.theirs); return err },
		}
		if i%2 == 1 {
			sides[0], sides[1] = sides[1], sides[0]
		}
		for _, side := range sides {
			if err := side(); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			rounds = append(rounds, round)
		}
	}
	return rounds, nil
}

// side sends all messages and waits until all listeners have heard them.
func (b broadcast) side(ctx context.Context, lab *harness.Lab, open studio) (side harness.Side, err error) {
	server, err := lab.Redis(ctx)
	if err != nil {
		return side, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := makeLatencies(b.messages)
	var hearing atomic.Int64
	hearing.Store(listeners)
	all := make(chan struct{})
	r, err := open(ctx, lab, server, func(listener int, sent time.Time) {
		if l := &latencies[listener]; l.add(time.Since(sent)) == b.messages && hearing.Add(-1) == 0 {
			close(all)
		}
	}, func(err error) { cancel(err) })
	if err != nil {
		return side, err
	}
	defer r.end()
	start := time.Now()
	if err := b.send(ctx, r); err != nil {
		return side, err
	}
	select {
	case <-all:
	case <-time.After(time.Minute):
		return side, errors.New("not all messages were heard within a minute")
	case <-ctx.Done():
		return side, context.Cause(ctx)
	}
	side = harness.Side{Operations: b.messages * listeners, Elapsed: time.Since(start)}
	for i := range latencies {
		side.Samples = append(side.Samples, latencies[i].all...)
	}
	return side, nil
}

func (b broadcast) send(ctx context.Context, r radio) error {
	if b.every == 0 {
		return r.send(ctx, b.messages)
	}
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	for range b.messages {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := r.send(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

// heardBy is what one listener heard; only that listener adds.
type heardBy struct{ all []time.Duration }

func makeLatencies(messages int) []heardBy {
	made := make([]heardBy, listeners)
	for i := range made {
		made[i].all = make([]time.Duration, 0, messages)
	}
	return made
}

func (h *heardBy) add(d time.Duration) int {
	h.all = append(h.all, d)
	return len(h.all)
}

const channel = "workflow:bench"

func ourRadio(ctx context.Context, lab *harness.Lab, server *redistest.Server, heard func(int, time.Time), failed func(error)) (radio, error) {
	log := slog.New(slog.DiscardHandler)
	publisher, err := notifier.NewPublisher(lab.GoRedis(server, poolSize), notifier.PublisherOptions{
		LogLength: 10_000, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return radio{}, err
	}
	hub, err := notifier.NewSubscriber(lab.GoRedis(server, poolSize), notifier.SubscriberOptions{
		Buffer: 10_000, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return radio{}, err
	}
	var listening sync.WaitGroup
	for i := range listeners {
		sub, err := hub.Subscribe(ctx, "bench")
		if err != nil {
			return radio{}, err
		}
		listening.Go(func() {
			for ev := range sub.Events() {
				if ev.Kind == notifier.KindGap {
					failed(fmt.Errorf("a gap: %s", ev.Reason))
					return
				}
				heard(i, ev.Time)
			}
		})
	}
	return radio{
		send: func(_ context.Context, n int) error {
			for range n {
				if err := publisher.Publish(notifier.Event{Kind: notifier.KindProgress, WorkflowID: "bench", TaskID: "task", Attempt: 1}); err != nil {
					return err
				}
			}
			return nil
		},
		end: func() {
			_ = publisher.Close(context.WithoutCancel(ctx))
			_ = hub.Close()
			listening.Wait()
		},
	}, nil
}

// stamped is a message that says when it was sent.
func stamped() string { return strconv.FormatInt(time.Now().UnixNano(), 10) }

func stampOf(message string) time.Time {
	nanos, _ := strconv.ParseInt(message, 10, 64)
	return time.Unix(0, nanos)
}

// goRedisRadio sends so many messages in one round trip.
func goRedisRadio(together int) studio {
	return func(ctx context.Context, lab *harness.Lab, server *redistest.Server, heard func(int, time.Time), _ func(error)) (radio, error) {
		return openGoRedisRadio(ctx, lab, server, together, heard)
	}
}

func openGoRedisRadio(ctx context.Context, lab *harness.Lab, server *redistest.Server, together int, heard func(int, time.Time)) (radio, error) {
	client := lab.GoRedis(server, poolSize)
	var listening sync.WaitGroup
	var subs []*redis.PubSub
	for i := range listeners {
		sub := client.Subscribe(ctx, channel)
		if _, err := sub.Receive(ctx); err != nil {
			return radio{}, err
		}
		subs = append(subs, sub)
		messages := sub.Channel()
		listening.Go(func() {
			for m := range messages {
				heard(i, stampOf(m.Payload))
			}
		})
	}
	return radio{
		send: func(ctx context.Context, n int) error {
			for ; n > 0; n -= together {
				if together == 1 {
					if err := client.Publish(ctx, channel, stamped()).Err(); err != nil {
						return err
					}
					continue
				}
				_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
					for range min(n, together) {
						p.Publish(ctx, channel, stamped())
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
		end: func() {
			for _, sub := range subs {
				_ = sub.Close()
			}
			listening.Wait()
		},
	}, nil
}

// rueidisRadio sends so many messages in one round trip.
func rueidisRadio(together int) studio {
	return func(ctx context.Context, _ *harness.Lab, server *redistest.Server, heard func(int, time.Time), failed func(error)) (radio, error) {
		return openRueidisRadio(ctx, server, together, heard, failed)
	}
}

func openRueidisRadio(ctx context.Context, server *redistest.Server, together int, heard func(int, time.Time), failed func(error)) (radio, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		return radio{}, err
	}
	receiving, stop := context.WithCancel(ctx)
	var listening sync.WaitGroup
	for i := range listeners {
		subscribed := make(chan struct{})
		told := sync.OnceFunc(func() { close(subscribed) })
		listening.Go(func() {
			confirm := rueidis.WithOnSubscriptionHook(receiving, func(rueidis.PubSubSubscription) { told() })
			err := client.Receive(confirm, client.B().Subscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) { heard(i, stampOf(m.Message)) })
			if err != nil && receiving.Err() == nil {
				failed(err)
			}
		})
		select {
		case <-subscribed:
		case <-ctx.Done():
			stop()
			return radio{}, context.Cause(ctx)
		}
	}
	return radio{
		send: func(ctx context.Context, n int) error {
			for ; n > 0; n -= together {
				commands := make(rueidis.Commands, min(n, together))
				for i := range commands {
					commands[i] = client.B().Publish().Channel(channel).Message(stamped()).Build()
				}
				for _, reply := range client.DoMulti(ctx, commands...) {
					if err := reply.Error(); err != nil {
						return err
					}
				}
			}
			return nil
		},
		end: func() {
			stop()
			listening.Wait()
			client.Close()
		},
	}, nil
}

func runPublish(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
	server, err := lab.Redis(ctx)
	if err != nil {
		return harness.Outcome{}, err
	}
	client := lab.GoRedis(server, poolSize)
	publisher, err := notifier.NewPublisher(client, notifier.PublisherOptions{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		return harness.Outcome{}, err
	}
	lab.Defer(func() error { return publisher.Close(context.Background()) })
	body := make([]byte, 250) // about an event's
	rounds, err := lab.Plan(harness.Plan{Turn: 100, Pairs: 20}).Compare(ctx,
		func(ctx context.Context, n int) error {
			_, err := publisher.Append(ctx, notifier.Event{
				WorkflowID: "w" + strconv.Itoa(n%100), RunID: "run", TaskID: "task", ActivityID: "1", ActivityType: "charge",
				Attempt: int32(n/100 + 1), Status: notifier.StatusRunning,
			})
			return err
		},
		func(ctx context.Context, n int) error {
			return client.Set(ctx, "w"+strconv.Itoa(n%100), body, ttl).Err()
		})
	if err != nil {
		return harness.Outcome{}, err
	}
	return harness.Latency(rounds), nil
}
