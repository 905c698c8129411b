//go:build integration

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

// raceWords are the signals that race waits for.
var raceWords = []string{"one", "two", "three"}

// race is the workflow of the golden histories of pauses: a selector over the
// results of activities with configs and locks, each of which schedules the next, a
// timer, and signals that schedule more, with a query and an update beside them. It
// returns the order in which it saw all of them, so that a replay which sees another
// is refused. Changing it needs new histories.
func race(ctx workflow.Context, refs []redisstate.Ref) (string, error) {
	var order []string
	note := func(what string) { order = append(order, what) }
	err := workflow.SetQueryHandler(ctx, "order", func() ([]string, error) { return order, nil })
	if err != nil {
		return "", err
	}
	err = workflow.SetUpdateHandler(ctx, "note", func(_ workflow.Context, what string) (int, error) {
		note(what)
		return len(order), nil
	})
	if err != nil {
		return "", err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ScheduleToStartTimeout: time.Minute, ScheduleToCloseTimeout: 2 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 3},
	})
	var failed error
	open, selector := 0, workflow.NewSelector(ctx)
	run := func(task string, ref int, p interceptors.Policy, then func()) {
		open++
		call := interceptors.WithPolicy(interceptors.WithTask(interceptors.WithConfig(ctx, refs[ref]), task), p)
		selector.AddFuture(workflow.ExecuteActivity(call, "read"), func(f workflow.Future) {
			open--
			if err := f.Get(ctx, nil); err != nil {
				failed = err
				return
			}
			note(task)
			then()
		})
	}
	for i := range refs {
		run(fmt.Sprint("free", i), i, interceptors.Policy{}, func() {
			run(fmt.Sprint("locked", i), i, interceptors.Critical, func() {})
		})
	}
	open++
	selector.AddFuture(workflow.NewTimer(ctx, 20*time.Millisecond), func(workflow.Future) {
		open--
		note("timer")
	})
	heard := 0
	selector.AddReceive(workflow.GetSignalChannel(ctx, "word"), func(c workflow.ReceiveChannel, _ bool) {
		var word string
		c.Receive(ctx, &word)
		heard++
		note(word)
		run(word+"-free", 0, interceptors.Policy{}, func() {})
		run(word+"-locked", 1, interceptors.Critical, func() {})
	})
	for open > 0 || heard < len(raceWords) {
		selector.Select(ctx)
		if failed != nil {
			return "", failed
		}
	}
	return strings.Join(order, " "), nil
}

// runner drives one run of race to where it is to be.
type runner struct {
	client client.Client
	run    client.WorkflowRun
}

func (r *runner) say(ctx context.Context, t *testing.T, word string) {
	t.Helper()
	if err := r.client.SignalWorkflow(ctx, r.run.GetID(), r.run.GetRunID(), "word", word); err != nil {
		t.Fatal(err)
	}
}

func (r *runner) note(ctx context.Context, t *testing.T, what string) {
	t.Helper()
	_, err := r.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: r.run.GetID(), RunID: r.run.GetRunID(), UpdateName: "note", Args: []any{what},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// saw waits until the run has seen all of them.
func (r *runner) saw(ctx context.Context, t *testing.T, things ...string) {
	t.Helper()
	var order []string
	eventually(ctx, t, fmt.Sprint("the run saw ", things), func() bool {
		answer, err := r.client.QueryWorkflow(ctx, r.run.GetID(), r.run.GetRunID(), "order")
		if err != nil || answer.Get(&order) != nil {
			return false
		}
		seen := " " + strings.Join(order, " ") + " "
		for _, thing := range things {
			if !strings.Contains(seen, " "+thing+" ") {
				return false
			}
		}
		return true
	})
}

// began brings the run to where the outage finds it: what it scheduled by itself is
// done, and so is what the first signal scheduled.
func (r *runner) began(ctx context.Context, t *testing.T) {
	t.Helper()
	r.say(ctx, t, raceWords[0])
	r.note(ctx, t, "noted")
	r.saw(ctx, t, "timer", "noted", "free0", "free1", "free2", "locked0", "locked1", "locked2", "one-free", "one-locked")
}

// during is what is asked of the run in the outage.
func (r *runner) during(ctx context.Context, t *testing.T) {
	t.Helper()
	r.say(ctx, t, raceWords[1])
	r.note(ctx, t, "noted-away")
	r.saw(ctx, t, raceWords[1], "noted-away")
}

// ends waits for the end, and looks at what the run saw.
func (r *runner) ends(ctx context.Context, t *testing.T) {
	t.Helper()
	var order string
	if err := r.run.Get(ctx, &order); err != nil {
		t.Fatal(err)
	}
	if seen := strings.Fields(order); len(seen) != 18 { // 6 at first, 3 a signal, the timer and two notes
		t.Errorf("the run saw %q", seen)
	}
}
