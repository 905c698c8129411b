package locking_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/locking"
)

// exampleManager is a Manager on embedded Redis and a function that ends both.
func exampleManager() (*locking.Manager, func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	manager, err := locking.New(client, locking.Options{
		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return manager, func() {
		_ = manager.Close(context.Background())
		_ = client.Close()
		server.Close()
	}
}

func ExampleManager_Acquire() {
	manager, end := exampleManager()
	defer end()
	ctx := context.Background()

	lease, err := manager.Acquire(ctx, "default/order-17")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = manager.Acquire(ctx, "default/order-17", locking.WithWait(0))
	fmt.Println("held by another:", errors.Is(err, locking.ErrNotAcquired))

	fmt.Println("released:", lease.Release(ctx) == nil)
	next, err := manager.Acquire(ctx, "default/order-17", locking.WithWait(time.Second))
	fmt.Println("granted:", err == nil, "with a higher fence:", next.Fence() > lease.Fence())
	// Output:
	// held by another: true
	// released: true
	// granted: true with a higher fence: true
}

func ExampleLease_Bind() {
	manager, end := exampleManager()
	defer end()
	lease, err := manager.Acquire(context.Background(), "default/order-17")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := lease.Bind(context.Background()) // work under this one
	defer cancel()

	_ = manager.Close(context.Background()) // takes the lease away
	<-ctx.Done()
	fmt.Println("lost:", errors.Is(context.Cause(ctx), locking.ErrLost))
	// Output:
	// lost: true
}

func ExampleLease_Follows() {
	manager, end := exampleManager()
	defer end()
	ctx := context.Background()
	acquire := func() *locking.Lease {
		lease, err := manager.Acquire(ctx, "default/order-17")
		if err != nil {
			panic(err)
		}
		_ = lease.Release(ctx)
		return lease
	}
	first, second, third := acquire(), acquire(), acquire()
	fmt.Println(second.Follows(first), third.Follows(first))
	// Output:
	// true false
}
