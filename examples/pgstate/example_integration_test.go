//go:build integration

package pgstate_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/compozy/temporal-redis/examples/pgstate"
	"github.com/compozy/temporal-redis/internal/pgtest"
	"github.com/compozy/temporal-redis/redisstate"
)

// A run and its task, written in a transaction and read through Redis.
func ExampleCached() {
	ctx := context.Background()
	if err := exampleCached(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the run is RUNNING, its task SUCCESS
	// the run is SUCCESS, its task SUCCESS
}

func exampleCached(ctx context.Context) error {
	server, err := pgtest.Run(ctx) // yours is there
	if err != nil {
		return err
	}
	defer server.Close()
	pool, err := pgxpool.New(ctx, server.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, pgstate.Schema); err != nil {
		return err
	}
	o := redisstate.Options{URL: "embedded://pgstate", Logger: slog.New(slog.DiscardHandler)}
	conn, err := redisstate.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	states, err := pgstate.NewCached(pool, conn.Client(), pgstate.Options{Redis: o})
	if err != nil {
		return err
	}
	defer func() { _ = states.Close() }()

	err = states.WithTransaction(ctx, func(ctx context.Context, tx pgstate.Repository) error {
		run := &pgstate.WorkflowState{WorkflowExecID: "run-1", WorkflowID: "audit", Status: pgstate.StatusRunning}
		if err := tx.UpsertState(ctx, run); err != nil {
			return err
		}
		return tx.UpsertTask(ctx, &pgstate.TaskState{
			TaskExecID: "task-1", TaskID: "list", WorkflowExecID: "run-1", WorkflowID: "audit", Component: "task",
			Status: pgstate.StatusSuccess, Output: []byte(`{"packages":12}`),
		})
	})
	if err != nil {
		return err
	}
	for range 2 {
		state, err := states.GetState(ctx, "run-1") // loads it; later it comes from Redis
		if err != nil {
			return err
		}
		fmt.Printf("the run is %s, its task %s\n", state.Status, state.Tasks["task-1"].Status)
		if err := states.UpdateStatus(ctx, "run-1", pgstate.StatusSuccess); err != nil {
			return err
		}
	}
	return nil
}
