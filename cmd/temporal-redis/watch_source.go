package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/worker"
)

// asked is a status source that remembers whether it answers. Safe for concurrent use.
type asked struct {
	source notifier.StatusSource

	mu     sync.Mutex
	failed error // the last question; nil before the first
}

// askTemporal returns what asks a Temporal server, and connects when it does first. The
// connection ends with ctx.
func askTemporal(ctx context.Context, address, namespace string) (*asked, error) {
	c, err := client.NewLazyClient(client.Options{
		HostPort: address, Namespace: namespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return nil, fmt.Errorf("--temporal: %w", err)
	}
	context.AfterFunc(ctx, c.Close)
	return &asked{source: worker.NewStatusSource(c, nil)}, nil
}

// States implements notifier.StatusSource.
func (a *asked) States(ctx context.Context, workflowID string) ([]notifier.Event, error) {
	states, err := a.source.States(ctx, workflowID)
	if _, ofTheID := errors.AsType[*serviceerror.InvalidArgument](err); !ofTheID && !errors.Is(ctx.Err(), context.Canceled) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.failed = err
	}
	return states, err
}

// failure is why the last question has no answer, nil if it has one or there was none. A
// nil *asked was never asked.
func (a *asked) failure() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}
