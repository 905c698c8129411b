package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/redisstate"
)

// DefaultKeepEvery is the interval of KeepConfigs if none is given.
const DefaultKeepEvery = 6 * time.Hour

// KeepConfigs keeps everything that was saved under the workflow's id in Redis
// while the workflow is open and waits, for days if need be: a timer fires now
// and then every so often (0 means DefaultKeepEvery), and an activity makes it
// all live for at least twice as long from then on. Overwritten content whose
// refs may still be in use is included. Call it from workflow code, with a
// context without interceptors.WithConfig:
//
//	stop := activities.KeepConfigs(ctx, 6*time.Hour)
//	defer stop()
//
// What it keeps is what redisstate.Entry.Workflow gave to this workflow's id:
// activities.SaveConfigs does so by itself, a host that saves before the start
// has to name the workflow. A round that finds nothing logs a warning.
//
// It is opt-in because each round adds a timer and an activity to the history:
// a workflow that already runs needs workflow.GetVersion around a new call. A
// workflow that reads its configs at least once per three quarters of
// redisstate.Options.TTL does not need it, since reads extend them.
//
// It ends with stop, with ctx and with the run; a run that is continued as new
// calls it again. When Redis is away a round waits for it, as activities do, and
// when a round fails for good it is logged and the next one comes in its time.
// Use an interval below half of the shortest time to live.
func KeepConfigs(ctx workflow.Context, every time.Duration) (stop func()) {
	if every <= 0 {
		every = DefaultKeepEvery
	}
	ctx, cancel := workflow.WithCancel(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for ctx.Err() == nil {
			var kept int
			err := workflow.ExecuteActivity(withTimeout(ctx), ExtendConfigsName, 2*every).Get(ctx, &kept)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				workflow.GetLogger(ctx).Warn("configs were not extended", "op", ExtendConfigsName, "error", err)
			case kept == 0:
				workflow.GetLogger(ctx).Warn("no config was kept", "op", ExtendConfigsName,
					"reason", "nothing is saved under this workflow's id; set redisstate.Entry.Workflow to it")
			}
			if workflow.Sleep(ctx, every) != nil {
				return
			}
		}
	})
	return cancel
}

// extendConfigs extends what the activity's workflow has and tells how many
// current configs that are.
func extendConfigs(ctx context.Context, ttl time.Duration) (int, error) {
	store, err := Store(ctx)
	if err != nil {
		return 0, err
	}
	lifetimes, ok := store.(redisstate.Lifetimes)
	if !ok {
		return 0, misuse(ExtendConfigsName, fmt.Errorf("the worker's store %T does not implement redisstate.Lifetimes", store))
	}
	n, err := lifetimes.ExtendWorkflow(ctx, activity.GetInfo(ctx).WorkflowExecution.ID, ttl)
	return n, ownFault(err)
}
