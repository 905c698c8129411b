package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/redisstate"
)

// Source makes the configs of one run again when Redis has lost them: those it
// started with from the workflow file, those of children from the file and from
// what their parent was given, which Temporal's history keeps. So a flushed
// Redis costs a run some time and nothing else. It is safe for concurrent use
// once its fields are set.
type Source struct {
	WorkflowID string
	Workflow   *spec.Workflow // normalized
	Client     client.Client
}

// Load makes a config. Errors wrap redisstate.ErrNotFound where this run has no
// such config.
func (s *Source) Load(ctx context.Context, key redisstate.Key) (redisstate.Entry, error) {
	entries, _, err := configs(s.WorkflowID, s.Workflow)
	if err != nil {
		return redisstate.Entry{}, err
	}
	made := func(e redisstate.Entry) bool { return e.ID == key.ID }
	if i := slices.IndexFunc(entries, made); i >= 0 {
		return entries[i], nil
	}
	children, err := s.children(ctx, entries)
	if err != nil {
		return redisstate.Entry{}, err
	}
	if i := slices.IndexFunc(children, made); i >= 0 {
		return children[i], nil
	}
	return redisstate.Entry{}, fmt.Errorf("the run has no such config: %w", redisstate.ErrNotFound)
}

// children makes the configs of all children that arose so far. Parents are
// those of the run's configs that a task was scheduled with.
func (s *Source) children(ctx context.Context, parents []redisstate.Entry) (all []redisstate.Entry, err error) {
	history := s.Client.GetWorkflowHistory(ctx, s.WorkflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return nil, fmt.Errorf("read the workflow's history: %w", err)
		}
		scheduled := event.GetActivityTaskScheduledEventAttributes()
		if scheduled.GetActivityType().GetName() != taskActivity {
			continue
		}
		var args Args
		if err := converter.GetDefaultDataConverter().FromPayloads(scheduled.GetInput(), &args); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(parents, func(e redisstate.Entry) bool { return e.ID == configID(s.WorkflowID, args.Task) })
		if i < 0 {
			continue // a child's own
		}
		entries, err := expandAgain(s.WorkflowID, parents[i], args)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// expandAgain does what the activity of a parallel or collection task did.
func expandAgain(workflowID string, parent redisstate.Entry, args Args) ([]redisstate.Entry, error) {
	var task spec.Task
	data, _ := parent.Value.(json.RawMessage)
	if err := json.Unmarshal(data, &task); err != nil { // as the activity read it
		return nil, err
	}
	if task.Type != spec.Parallel && task.Type != spec.Collection {
		return nil, nil
	}
	values, err := args.values()
	if err != nil {
		return nil, err
	}
	children, err := task.Children(values)
	if err != nil {
		return nil, err
	}
	entries, _, err := plan(workflowID, children)
	return entries, err
}
