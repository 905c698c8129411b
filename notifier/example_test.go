package notifier_test

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/notifier"
)

// example is a client of a Redis in this process, for the examples.
func example() (client *redis.Client, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return client, func() {
		_ = client.Close()
		server.Close()
	}
}

func ExampleHub_Subscribe() {
	client, end := example()
	defer end()
	ctx := context.Background()

	publisher, err := notifier.NewPublisher(client, notifier.PublisherOptions{})
	if err != nil {
		log.Fatal(err)
	}
	hub, err := notifier.NewSubscriber(client, notifier.SubscriberOptions{})
	if err != nil {
		log.Fatal(err)
	}
	subscription, err := hub.Subscribe(ctx, "order-1")
	if err != nil {
		log.Fatal(err)
	}

	for _, ev := range []notifier.Event{
		{WorkflowID: "order-1", RunID: "run-1", Status: notifier.StatusRunning},
		{WorkflowID: "order-1", RunID: "run-1", TaskID: "charge", Attempt: 1, Status: notifier.StatusRunning},
		{WorkflowID: "order-1", RunID: "run-1", TaskID: "charge", Attempt: 1, Status: notifier.StatusSuccess},
		{WorkflowID: "order-1", RunID: "run-1", Status: notifier.StatusSuccess, Final: true},
	} {
		if err := publisher.Publish(ev); err != nil { // never for Redis' sake
			log.Fatal(err)
		}
	}

	for ev := range subscription.Events() {
		if ev.OfWorkflow() {
			fmt.Println("workflow:", ev.Status)
		} else {
			fmt.Printf("%s: %s after %q\n", ev.TaskID, ev.Status, ev.Previous)
		}
		if ev.EndsWorkflow() {
			subscription.Close()
			break
		}
	}
	_ = hub.Close()
	_ = publisher.Close(ctx)

	// Output:
	// workflow: RUNNING
	// charge: RUNNING after ""
	// charge: SUCCESS after "RUNNING"
	// workflow: SUCCESS
}

func ExampleBackgroundPublisher_Publish() {
	client, end := example()
	defer end()
	ctx := context.Background()

	publisher, err := notifier.NewPublisher(client, notifier.PublisherOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Close(ctx)

	fmt.Println(publisher.Publish(notifier.Event{WorkflowID: "order-1", Status: "DONE"}))
	fmt.Println(publisher.Publish(notifier.Event{WorkflowID: "order-1", Status: notifier.StatusRunning}))
	fmt.Println(publisher.Flush(ctx)) // in Redis by now

	// Output:
	// notifier: publish: invalid event: status is "DONE"; use one of the Status constants
	// <nil>
	// <nil>
}

func ExampleAfter() {
	client, end := example()
	defer end()
	ctx := context.Background()
	publisher, err := notifier.NewPublisher(client, notifier.PublisherOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Close(ctx)
	hub, err := notifier.NewSubscriber(client, notifier.SubscriberOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()

	task := func(s notifier.Status) notifier.Event {
		return notifier.Event{WorkflowID: "order-1", RunID: "run-1", TaskID: "charge", Attempt: 1, Status: s}
	}
	_ = publisher.Publish(task(notifier.StatusRunning))
	_ = publisher.Flush(ctx)

	first, err := hub.Subscribe(ctx, "order-1") // begins with the state of each task
	if err != nil {
		log.Fatal(err)
	}
	last := <-first.Events()
	fmt.Println("snapshot:", last.Snapshot, last.Status)
	first.Close() // the consumer goes away

	_ = publisher.Publish(task(notifier.StatusSuccess))
	_ = publisher.Flush(ctx)

	again, err := hub.Subscribe(ctx, "order-1", notifier.After(last.Epoch, last.ID)) // and comes back
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("missed:", (<-again.Events()).Status)

	// Output:
	// snapshot: true RUNNING
	// missed: SUCCESS
}
