package redisstate_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/redisstate"
)

func ExampleSession() {
	ctx := context.Background()
	options := redisstate.Options{URL: "embedded://session", Registerer: prometheus.NewRegistry()}
	conn, err := redisstate.Connect(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	sessions, err := redisstate.NewSessions(conn.Client(), options)
	if err != nil {
		log.Fatal(err)
	}
	session, err := sessions.Open(redisstate.ExecutionID("order-42", "0f6f"))
	if err != nil {
		log.Fatal(err)
	}
	if err := session.SetMany(ctx, map[string]any{"seat": 12, "task": Task{ID: "charge"}}); err != nil {
		log.Fatal(err)
	}
	seat, err := redisstate.SessionGet[int](ctx, session, "seat")
	fmt.Println(seat, err)
	_, err = redisstate.SessionGet[Task](ctx, session, "none")
	fmt.Println(errors.Is(err, redisstate.ErrNotFound))
	// Output:
	// 12 <nil>
	// true
}

func ExampleCounters() {
	ctx := context.Background()
	registry := prometheus.NewRegistry()
	options := redisstate.Options{URL: "embedded://counters", Registerer: registry}
	conn, err := redisstate.Connect(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	counters, err := redisstate.NewCounters(conn.Client(), options)
	if err != nil {
		log.Fatal(err)
	}
	registry.MustRegister(counters.Collector()) // redis_shared_total{name="tokens_used"}
	total, err := counters.Incr(ctx, "tokens_used", 150)
	if errors.Is(err, redisstate.ErrOutcomeUnknown) {
		log.Print("counted once or not at all") // asking again might count twice
	}
	fmt.Println(total, err)
	// Output:
	// 150 <nil>
}
