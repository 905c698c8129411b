package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/examples/audit/flow"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/internal/screen"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

//go:embed audit.yaml
var builtIn []byte

// How long the demo waits for an end that should be there.
const (
	cancelTimeout = 10 * time.Second // of a cancelled workflow
	eventTimeout  = 5 * time.Second  // of the last event, after the workflow's end
)

// audit runs one workflow from its file to its checked report.
func audit(ctx context.Context, s settings, stdout io.Writer) error {
	id := "audit-" + time.Now().UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
	w, err := load(s, id)
	if err != nil {
		return err
	}
	h, err := start(ctx, s, id, w)
	if err != nil {
		return err
	}
	defer h.stop()

	banner := fmt.Sprintf("temporal    %s, task queue %s\nchannel     workflow:%s\n", h.addr, h.queue, id)
	if h.chaos != nil {
		banner += fmt.Sprintf("chaos       Redis (process %d) will be killed when a task waits for the lock, for %s\n", h.chaos.server.Pid(), outageLasts)
	}
	if _, err := fmt.Fprintln(stdout, banner); err != nil {
		return err
	}
	view := screen.New(stdout)
	result, err := h.execute(ctx, id, w, view)
	if err != nil {
		return err
	}
	if h.chaos != nil {
		if err := h.chaos.wait(); err != nil {
			return err
		}
	}
	sum, err := h.summarize(ctx, id)
	if err != nil {
		return err
	}
	sum.result, sum.view = result, view
	h.stop() // the metrics are complete
	err = sum.print(stdout)
	if h.chaos != nil {
		err = errors.Join(err, h.chaos.print(stdout, result.Tasks, h.attempts.Entered()))
	}
	return errors.Join(err, verify(stdout, w, id))
}

// load reads the workflow file, settles its inputs and normalizes it.
func load(s settings, id string) (w *spec.Workflow, err error) {
	if s.file == "" {
		w, err = spec.Parse("audit.yaml", builtIn)
	} else {
		w, err = spec.Load(s.file)
	}
	if err == nil {
		err = s.suits(w)
	}
	if err == nil {
		err = s.settle(w.With, id)
	}
	if err == nil {
		err = w.Normalize(redisstate.DefaultMaxConfigBytes)
	}
	if _, ok := errors.AsType[*spec.FileError](err); ok {
		err = fmt.Errorf("%w: %w", errInput, err)
	}
	return w, err
}

// execute saves the configs, runs the workflow and shows its events until the
// last one.
func (h *host) execute(ctx context.Context, id string, w *spec.Workflow, view *screen.Screen) (result flow.Result, err error) {
	store, err := h.plugin.Store(ctx)
	if err != nil {
		return result, err
	}
	events, err := h.plugin.Subscriber(ctx)
	if err != nil {
		return result, err
	}
	// The screen outlives ctx: a cancelled workflow still has something to say.
	viewing, stopViewing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopViewing()
	sub, err := events.Subscribe(viewing, id, notifier.WithStatusSource(worker.NewStatusSource(h.client, nil)))
	if err != nil {
		return result, err
	}
	defer sub.Close()

	in, err := flow.Save(ctx, store, id, w)
	if err != nil {
		return result, err
	}
	run, err := h.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: h.queue}, flow.WorkflowName, in)
	if err != nil {
		h.withdraw(ctx, id)
		return result, errors.Join(fmt.Errorf("start the workflow: %w", err),
			flow.Discard(context.WithoutCancel(ctx), store, id, w))
	}
	seen := sub.Events()
	if h.chaos != nil {
		seen = h.chaos.follow(viewing, ctx, seen)
	}
	shown := make(chan error, 1)
	go func() { shown <- view.Run(viewing, seen, events.Connected) }()
	err = h.wait(ctx, run, &result)
	timer := time.AfterFunc(eventTimeout, stopViewing)
	defer timer.Stop()
	return result, errors.Join(err, <-shown)
}

// withdraw ends a workflow that the server may have started without our hearing of it:
// nobody else would. Mostly there is none.
func (h *host) withdraw(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	_ = h.client.TerminateWorkflow(ctx, id, "", "the demo was stopped while it started it")
}

// wait waits for the workflow. If ctx ends first it cancels the workflow and
// waits for that.
func (h *host) wait(ctx context.Context, run client.WorkflowRun, result *flow.Result) error {
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run.Get(waiting, result) }()
	var gone <-chan struct{}
	if h.own != nil {
		gone = h.own.Done()
	}
	interrupted := ctx.Done()
	for {
		select {
		case err := <-ended:
			return explain(err)
		case <-gone:
			return fmt.Errorf("the Temporal dev server ended while the workflow ran: %w", h.own.Err())
		case <-interrupted:
			interrupted = nil // once
			timer := time.AfterFunc(cancelTimeout, stop)
			defer timer.Stop()
			if err := h.client.CancelWorkflow(waiting, run.GetID(), run.GetRunID()); err != nil {
				return fmt.Errorf("cancel the workflow: %w", err)
			}
		}
	}
}

// explain takes what a user needs out of a workflow's error.
func explain(err error) error {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return fmt.Errorf("the workflow failed: %s", app.Message())
	}
	if err != nil {
		return fmt.Errorf("wait for the workflow: %w", err)
	}
	return nil
}
