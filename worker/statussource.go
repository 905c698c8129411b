package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/notifier"
)

// StatusSource is a notifier.StatusSource that asks Temporal. NewStatusSource makes
// it. Safe for concurrent use.
type StatusSource struct {
	client client.Client
	id     func(string) string
}

var _ notifier.StatusSource = (*StatusSource)(nil)

// maxHistory is up to how many events of a workflow's history are read to learn of its
// tasks. Of a longer one only the workflow itself is told.
const maxHistory = 10_000

// NewStatusSource returns a source of states for subscriptions, see
// notifier.WithStatusSource. temporalID finds Temporal's workflow id from the one under
// which events are published, the inverse of Options.WorkflowID; nil means that they
// are the same. The client stays the caller's. Per question it takes one call to the
// server, and one per 1,000 events of the history.
func NewStatusSource(c client.Client, temporalID func(workflowID string) string) *StatusSource {
	if temporalID == nil {
		temporalID = func(id string) string { return id }
	}
	return &StatusSource{client: c, id: temporalID}
}

// States implements notifier.StatusSource. Its errors are the client's.
func (s *StatusSource) States(ctx context.Context, workflowID string) ([]notifier.Event, error) {
	id := s.id(workflowID)
	described, err := s.client.DescribeWorkflowExecution(ctx, id, "")
	if _, unknown := errors.AsType[*serviceerror.NotFound](err); unknown {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("worker: describe the workflow: %w", err)
	}
	info := described.GetWorkflowExecutionInfo()
	r := &states{run: info.GetExecution().GetRunId(), tasks: make(map[int64]*notifier.Event)}
	known := info.GetHistoryLength() <= maxHistory && s.read(ctx, id, r) == nil
	if !known { // what is known of tasks may be half of it
		return []notifier.Event{r.workflow(info)}, nil
	}
	for _, pending := range described.GetPendingActivities() {
		r.pending(pending)
	}
	if _, ended := statusOf(info.GetStatus()); ended {
		r.abandon(info.GetCloseTime().AsTime())
	}
	return append([]notifier.Event{r.workflow(info)}, r.events()...), nil
}

// read takes in the history of the run.
func (s *StatusSource) read(ctx context.Context, id string, r *states) error {
	events := s.client.GetWorkflowHistory(ctx, id, r.run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		ev, err := events.Next()
		if err != nil {
			return fmt.Errorf("worker: read the history: %w", err)
		}
		r.add(ev)
	}
	return nil
}

// states are what is found out about one run.
type states struct {
	run    string
	reason string // why the workflow ended
	order  []int64
	tasks  map[int64]*notifier.Event // by the event that scheduled it
}

func (r *states) events() []notifier.Event {
	all := make([]notifier.Event, len(r.order))
	for i, scheduled := range r.order {
		all[i] = *r.tasks[scheduled]
	}
	return all
}

func (r *states) workflow(info *workflowpb.WorkflowExecutionInfo) notifier.Event {
	ev := notifier.Event{RunID: r.run, Time: time.Now().UTC(), Reason: r.reason}
	if end := info.GetCloseTime(); end != nil {
		ev.Time = end.AsTime()
	}
	ev.Status, ev.Final = statusOf(info.GetStatus())
	return ev
}

// statusOf is Compozy's word for Temporal's. A run that was continued is told by the
// one that continues it.
func statusOf(s enumspb.WorkflowExecutionStatus) (status notifier.Status, final bool) {
	switch s {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return notifier.StatusSuccess, true
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return notifier.StatusFailed, true
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return notifier.StatusCanceled, true
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return notifier.StatusTimedOut, true
	}
	return notifier.StatusRunning, false
}

// add takes in one event of the history.
func (r *states) add(ev *historypb.HistoryEvent) {
	switch {
	case ev.GetActivityTaskScheduledEventAttributes() != nil:
		a := ev.GetActivityTaskScheduledEventAttributes()
		task, call, published := interceptors.TaskOf(a.GetHeader(), a.GetActivityType().GetName())
		if !published {
			return
		}
		r.order = append(r.order, ev.GetEventId())
		r.tasks[ev.GetEventId()] = &notifier.Event{
			RunID: r.run, TaskID: task, Call: call, ActivityID: a.GetActivityId(), ActivityType: a.GetActivityType().GetName(),
			Status: notifier.StatusPending, Time: ev.GetEventTime().AsTime(),
		}
	case ev.GetActivityTaskStartedEventAttributes() != nil: // written with the end, as a rule
		a := ev.GetActivityTaskStartedEventAttributes()
		r.set(a.GetScheduledEventId(), ev, notifier.StatusRunning, "", false)
		if task := r.tasks[a.GetScheduledEventId()]; task != nil {
			task.Attempt = a.GetAttempt()
		}
	case ev.GetActivityTaskCompletedEventAttributes() != nil:
		r.set(ev.GetActivityTaskCompletedEventAttributes().GetScheduledEventId(), ev, notifier.StatusSuccess, "", true)
	case ev.GetActivityTaskFailedEventAttributes() != nil:
		a := ev.GetActivityTaskFailedEventAttributes()
		status, reason := failed(a.GetFailure())
		r.set(a.GetScheduledEventId(), ev, status, reason, true)
	case ev.GetActivityTaskTimedOutEventAttributes() != nil:
		a := ev.GetActivityTaskTimedOutEventAttributes()
		r.set(a.GetScheduledEventId(), ev, notifier.StatusTimedOut, a.GetFailure().GetMessage(), true)
	case ev.GetActivityTaskCanceledEventAttributes() != nil:
		r.set(ev.GetActivityTaskCanceledEventAttributes().GetScheduledEventId(), ev, notifier.StatusCanceled, "", true)
	case ev.GetWorkflowExecutionTerminatedEventAttributes() != nil:
		r.reason = "terminated"
		if why := ev.GetWorkflowExecutionTerminatedEventAttributes().GetReason(); why != "" {
			r.reason += ": " + why
		}
	case ev.GetWorkflowExecutionFailedEventAttributes() != nil:
		r.reason = ev.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()
	case ev.GetWorkflowExecutionTimedOutEventAttributes() != nil:
		r.reason = "workflow time-out"
	}
}

func (r *states) set(scheduled int64, ev *historypb.HistoryEvent, s notifier.Status, reason string, final bool) {
	task := r.tasks[scheduled]
	if task == nil {
		return
	}
	// As the workflow's own word on a task, which has no attempt.
	task.Status, task.Reason, task.Final, task.Time = s, reason, final, ev.GetEventTime().AsTime()
	if final {
		task.Attempt = 0
	}
}

// pending takes in what the server says of an activity that is not over.
func (r *states) pending(a *workflowpb.PendingActivityInfo) {
	task := r.find(a.GetActivityId())
	if task == nil { // it is not to be published, or began since the history was read
		return
	}
	task.Attempt, task.Final, task.Reason = a.GetAttempt(), false, ""
	task.Time = latest(a.GetLastHeartbeatTime().AsTime(), a.GetLastStartedTime().AsTime(), a.GetScheduledTime().AsTime())
	switch a.GetState() {
	case enumspb.PENDING_ACTIVITY_STATE_STARTED:
		task.Status = notifier.StatusRunning
		if since, holds := interceptors.Holding(a.GetHeartbeatDetails(), a.GetAttempt()); holds {
			task.Status, task.Reason = notifier.StatusPaused, "redis"
			if !since.IsZero() { // heartbeats come while it waits
				task.Time = since.UTC()
			}
		}
		return
	case enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED, enumspb.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED:
		task.Status = notifier.StatusRunning
		return
	case enumspb.PENDING_ACTIVITY_STATE_PAUSED:
		task.Status, task.Reason = notifier.StatusPaused, "operator"
		return
	}
	if a.GetAttempt() <= 1 {
		task.Attempt, task.Status = 0, notifier.StatusPending
		return
	}
	// The attempt that the server names is the one that it will start.
	task.Attempt--
	task.Status, task.Reason = afterFailure(a.GetLastFailure())
}

// afterFailure is what a task does between two attempts.
func afterFailure(f *failurepb.Failure) (notifier.Status, string) {
	switch f.GetApplicationFailureInfo().GetType() {
	case interceptors.RedisUnavailable, interceptors.RedisDenied:
		return notifier.StatusPaused, "redis"
	case interceptors.LockContended:
		return notifier.StatusWaiting, "lock"
	}
	return failed(f)
}

// failed is how an attempt ended that did not end well.
func failed(f *failurepb.Failure) (notifier.Status, string) {
	if f.GetApplicationFailureInfo().GetType() == interceptors.TimedOut && f.GetCause().GetTimeoutFailureInfo() != nil {
		f = f.GetCause()
	}
	if f.GetTimeoutFailureInfo() != nil {
		return notifier.StatusTimedOut, f.GetMessage()
	}
	return notifier.StatusFailed, f.GetMessage()
}

// abandon ends the tasks that were open when the workflow ended.
func (r *states) abandon(at time.Time) {
	for _, task := range r.tasks {
		if !task.Final {
			task.Status, task.Reason, task.Final, task.Attempt, task.Time = notifier.StatusCanceled, "the workflow has ended", true, 0, at
		}
	}
}

func (r *states) find(activityID string) *notifier.Event {
	for _, task := range r.tasks {
		if task.ActivityID == activityID && !task.Final { // an id may be used again
			return task
		}
	}
	return nil
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
