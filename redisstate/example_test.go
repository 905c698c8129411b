package redisstate_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/redisstate"
)

// Task is a config as a host has it.
type Task struct {
	ID    string `json:"id"`
	Model string `json:"model"`
}

// connectEmbedded gives each example a Redis of its own.
func connectEmbedded(name string) (*redisstate.Store, func()) {
	options := redisstate.Options{URL: "embedded://" + name, Registerer: prometheus.NewRegistry()}
	conn, err := redisstate.Connect(context.Background(), options)
	if err != nil {
		log.Fatal(err)
	}
	store, err := redisstate.NewStore(conn.Client(), options)
	if err != nil {
		log.Fatal(err)
	}
	return store, func() { _, _ = store.Close(), conn.Close() }
}

func Example() {
	ctx := context.Background()
	options := redisstate.Options{URL: "embedded://example", Registerer: prometheus.NewRegistry()}
	conn, err := redisstate.Connect(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Check(ctx); err != nil { // is Redis there, and does it let us in?
		log.Fatal(err)
	}
	store, err := redisstate.NewStore(conn.Client(), options)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	tasks := redisstate.For[Task](store)
	ref, err := tasks.Set(ctx, "order-42", "charge", &Task{ID: "charge", Model: "small"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tasks.Set(ctx, "order-42", "charge", &Task{ID: "charge", Model: "large"}); err != nil {
		log.Fatal(err)
	}
	pinned, _, err := tasks.Get(ctx, ref.Key())
	if err != nil {
		log.Fatal(err)
	}
	current, _, err := tasks.Get(ctx, redisstate.ID("charge"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the ref still gives", pinned.Model)
	fmt.Println("the id gives", current.Model)
	// Output:
	// the ref still gives small
	// the id gives large
}

func ExampleConnect() {
	_, err := redisstate.Connect(context.Background(), redisstate.Options{URL: "http://localhost"})
	fmt.Println(err)
	// Output:
	// redisstate: invalid options: URL has the scheme "http"; use redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster or embedded
}

func ExampleOptionsFromEnv() {
	environment := map[string]string{"REDIS_URL": "redis://redis.internal:6379/1", "REDIS_TTL": "12h"}
	lookup := func(name string) (string, bool) { value, found := environment[name]; return value, found }

	options, err := redisstate.OptionsFromEnv(redisstate.Options{TTL: time.Hour}, lookup) // code wins
	fmt.Println(options.URL, options.TTL, err)
	// Output:
	// redis://redis.internal:6379/1 1h0m0s <nil>
}

func ExampleOptions_Validate() {
	fmt.Println(redisstate.Options{}.Validate())
	// Output:
	// redisstate: invalid options: no Redis given; set REDIS_URL or Options.URL, for example redis://localhost:6379, or embedded:// for a Redis inside this process
}

func ExampleStore_Set() {
	store, closeAll := connectEmbedded("set")
	defer closeAll()
	refs, err := store.Set(context.Background(),
		redisstate.Entry{ID: "charge", Workflow: "order-42", Value: Task{ID: "charge"}},
		redisstate.Entry{ID: "ship", Workflow: "order-42", Value: []byte(`{"id":"ship"}`), TTL: time.Hour},
	)
	fmt.Println(len(refs), refs[1].ID, err)

	_, err = store.Set(context.Background(), redisstate.Entry{ID: "", Value: 1})
	fmt.Println(err)
	// Output:
	// 2 ship <nil>
	// redisstate: set (config): entry 1 of 1: invalid key: invalid id: config id is empty; give it a non-empty value
}

func ExampleStore_Get() {
	store, closeAll := connectEmbedded("get")
	defer closeAll()
	_, err := store.Get(context.Background(), redisstate.ID("never saved"))
	fmt.Println(errors.Is(err, redisstate.ErrNotFound))
	// Output:
	// true
}

func ExampleStore_GetMany() {
	ctx := context.Background()
	store, closeAll := connectEmbedded("many")
	defer closeAll()
	refs, err := store.Set(ctx, redisstate.Entry{ID: "a", Value: 1}, redisstate.Entry{ID: "b", Value: 2})
	if err != nil {
		log.Fatal(err)
	}
	found, err := store.GetMany(ctx, refs[0].Key(), redisstate.ID("b"), redisstate.ID("missing"))
	fmt.Println(len(found), string(found[redisstate.ID("b")].JSON()), err)
	// Output:
	// 2 2 <nil>
}

func ExampleStore_Scan() {
	ctx := context.Background()
	store, closeAll := connectEmbedded("scan")
	defer closeAll()
	if _, err := store.Set(ctx, redisstate.Entry{ID: "charge", Workflow: "order-42", Value: 1}); err != nil {
		log.Fatal(err)
	}
	for key, err := range store.Scan(ctx, redisstate.Scope{Workflow: "order-42"}) {
		fmt.Println(key.ID, err)
	}
	// Output:
	// charge <nil>
}

func ExampleDecode() {
	config, err := redisstate.NewConfig("charge", "order-42", Task{ID: "charge", Model: "small"})
	if err != nil {
		log.Fatal(err)
	}
	task, err := redisstate.Decode[Task](config)
	fmt.Println(task.Model, err)
	// Output:
	// small <nil>
}

func ExampleNewContext() {
	store, closeAll := connectEmbedded("context")
	defer closeAll()
	ctx := redisstate.NewContext(context.Background(), store)

	_, found := redisstate.StoreFromContext(ctx)
	fmt.Println(found)
	// Output:
	// true
}
