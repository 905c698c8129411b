package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/examples/audit/check"
	"github.com/compozy/temporal-redis/examples/audit/flow"
	"github.com/compozy/temporal-redis/examples/audit/screen"
	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/examples/audit/tools"
	"github.com/compozy/temporal-redis/redisstate"
)

//go:embed audit.yaml
var builtIn []byte

// How long the demo waits for an end that should be there.
const (
	cancelTimeout = 10 * time.Second // of a cancelled workflow
	eventTimeout  = 5 * time.Second  // of the last event, after the workflow's end
)

// audit runs one workflow from its file to its checked report.
func audit(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	id := "audit-" + time.Now().UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
	w, err := load(s, id)
	if err != nil {
		return err
	}
	logs := newLogBook()
	h, err := start(ctx, s, id, logs.logger())
	if err != nil {
		return err
	}
	defer h.stop()

	_, err = fmt.Fprintf(stdout, "temporal    %s, task queue %s\nchannel     workflow:%s\n\n", h.addr, h.queue, id)
	if err != nil {
		return err
	}
	view := screen.New(stdout, viewOptions(stdout))
	result, err := h.execute(ctx, id, w, view)
	sum := summary{result: result, view: view, registry: h.registry}
	if err != nil {
		if !errors.Is(err, errWorkflow) && ctx.Err() == nil {
			logs.dump(stderr)
		}
		return err
	}
	sum.history = h.historyBytes(ctx, id)
	h.stop() // the metrics are complete
	return errors.Join(sum.print(stdout), verify(stdout, w, id))
}

// load reads the workflow file and settles its inputs.
func load(s settings, id string) (*spec.Workflow, error) {
	rules := spec.Rules{
		Tools:          tools.BuiltIn(),
		MaxConfigBytes: redisstate.DefaultMaxConfigBytes,
		Settle:         func(with map[string]any) error { return s.settle(with, id) },
	}
	var w *spec.Workflow
	var err error
	if s.file == "" {
		w, err = spec.Parse("audit.yaml", builtIn, rules)
	} else {
		w, err = spec.Load(s.file, rules)
	}
	if err != nil && !errors.Is(err, errInput) {
		err = fmt.Errorf("%w: %w", errInput, err)
	}
	return w, err
}

func viewOptions(out io.Writer) screen.Options {
	if f, ok := out.(*os.File); ok {
		return screen.For(f)
	}
	return screen.Options{}
}

// execute saves the configs, runs the workflow and shows its events until the
// last one.
func (h *host) execute(ctx context.Context, id string, w *spec.Workflow, view *screen.Screen) (flow.Result, error) {
	var result flow.Result
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
	sub, err := events.Subscribe(viewing, id)
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
		return result, errors.Join(fmt.Errorf("start the workflow: %w", err),
			flow.Discard(context.WithoutCancel(ctx), store, id, w))
	}
	shown := make(chan error, 1)
	go func() {
		ended, err := view.Run(viewing, sub.Events())
		if err == nil && !ended {
			err = fmt.Errorf("the workflow's last event did not come within %s", eventTimeout)
		}
		shown <- err
	}()
	if err = h.wait(ctx, run, &result); errors.Is(err, errServerGone) {
		stopViewing()
	}
	timer := time.AfterFunc(eventTimeout, stopViewing)
	defer timer.Stop()
	if viewErr := <-shown; err == nil {
		err = viewErr
	}
	return result, err
}

var errServerGone = errors.New("the Temporal dev server ended while the workflow ran")

// wait waits for the workflow. If ctx ends first it cancels the workflow and
// waits for that.
func (h *host) wait(ctx context.Context, run client.WorkflowRun, result *flow.Result) error {
	watched, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go func() {
		select {
		case <-h.gone:
			unwatch()
		case <-watched.Done():
		}
	}()
	err := run.Get(watched, result)
	switch {
	case ctx.Err() == nil && watched.Err() != nil:
		return errServerGone
	case ctx.Err() == nil:
		return explain(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	if err := h.client.CancelWorkflow(ctx, run.GetID(), run.GetRunID()); err != nil {
		return fmt.Errorf("cancel the workflow: %w", err)
	}
	if err := run.Get(ctx, result); ctx.Err() == nil {
		return explain(err)
	}
	stuck := errors.New("the workflow did not end when it was cancelled; it was terminated")
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	return errors.Join(stuck, h.client.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), stuck.Error()))
}

// explain takes what a user needs out of a workflow's error.
func explain(err error) error {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return fmt.Errorf("%w: %s", errWorkflow, app.Message())
	}
	if err != nil {
		return fmt.Errorf("wait for the workflow: %w", err)
	}
	return nil
}

// errWorkflow marks the failure of a task: what it says is all there is to say.
var errWorkflow = errors.New("the workflow failed")

// verify counts the tree again and compares the report with it. A workflow that
// wrote no report has nothing to compare; one of an earlier run does not count.
func verify(stdout io.Writer, w *spec.Workflow, id string) error {
	tree, _ := w.With["tree"].(string)
	out, _ := w.With["out"].(string)
	file := filepath.Join(out, tools.ReportName)
	got, err := check.Compare(file, tree)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && got.WorkflowID != id:
		_, err := fmt.Fprintln(stdout, "report      none; no task of the workflow wrote one")
		return err
	case err != nil:
		return fmt.Errorf("check the report: %w", err)
	}
	lines := []string{"report      " + file}
	if n := len(got.Differences); n == 0 {
		lines = append(lines, "check       right, counted again by other code:", "            "+got.Counted)
	} else {
		err = fmt.Errorf("the report differs from the tree in %d places: a tool counted wrong, or the tree changed meanwhile", n)
		const most = 10
		for _, d := range got.Differences[:min(n, most)] {
			lines = append(lines, "check       "+d)
		}
	}
	_, printErr := fmt.Fprintln(stdout, strings.Join(lines, "\n"))
	return errors.Join(err, printErr)
}

// historyBytes is the size of the workflow's history as the server tells it, 0
// if it does not.
func (h *host) historyBytes(ctx context.Context, id string) int64 {
	d, err := h.client.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return 0
	}
	return d.GetWorkflowExecutionInfo().GetHistorySizeBytes()
}
