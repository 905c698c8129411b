package interceptors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/internal/excerpt"
	"github.com/compozy/temporal-redis/redisstate"
)

// headerKey is the one header field of ours. It travels outside the user's
// data converter, so it carries references and settings, never content.
const headerKey = "temporal-redis"

// envelope is what the workflow side tells the activity side about one call.
type envelope struct {
	Ref    *redisstate.Ref `json:"ref,omitempty"`
	Task   string          `json:"task,omitempty"`
	Call   int64           `json:"call,omitempty"` // rising number of the call within its run
	Policy Policy          `json:"policy,omitzero"`
	Limits *limits         `json:"limits,omitempty"` // nil: the server holds them
}

type workflowKey int

const (
	refKey workflowKey = iota
	taskKey
	policyKey
)

// WithConfig makes the activities scheduled with the returned context read the
// config that ref names before they start; activities.Config gives it to them.
// Only the ref enters history.
func WithConfig(ctx workflow.Context, ref redisstate.Ref) workflow.Context {
	return workflow.WithValue(ctx, refKey, ref)
}

// MaxTaskBytes is the longest task name that events carry.
const MaxTaskBytes = 256

// WithTask names the task that the activities scheduled with the returned
// context work for; events carry the name, cut to MaxTaskBytes and without
// invalid UTF-8. Defaults to the activity type.
func WithTask(ctx workflow.Context, taskID string) workflow.Context {
	return workflow.WithValue(ctx, taskKey, excerpt.Of(taskID, MaxTaskBytes))
}

// WithPolicy overrides the policy of the activities scheduled with the returned
// context. Fields left at Default keep the worker's policy.
func WithPolicy(ctx workflow.Context, p Policy) workflow.Context {
	return workflow.WithValue(ctx, policyKey, p)
}

func envelopeOf(ctx workflow.Context) envelope {
	var e envelope
	if ref, ok := ctx.Value(refKey).(redisstate.Ref); ok {
		e.Ref = &ref
	}
	e.Task, _ = ctx.Value(taskKey).(string)
	e.Policy, _ = ctx.Value(policyKey).(Policy)
	return e
}

// setHeader puts e in the header of the call being scheduled.
func setHeader(ctx workflow.Context, e envelope) error {
	payload, err := encodeEnvelope(e)
	if err != nil {
		return err
	}
	if header := interceptor.WorkflowHeader(ctx); header != nil {
		header[headerKey] = payload
	}
	return nil
}

func encodeEnvelope(e envelope) (*commonpb.Payload, error) {
	payload, err := converter.GetDefaultDataConverter().ToPayload(e)
	if err != nil {
		return nil, fmt.Errorf("interceptors: encode the header: %w", err)
	}
	return payload, nil
}

// errNotPinned is the cause when a ref names an id but no content.
var errNotPinned = errors.New("the call's config ref has no digest; pass the refs that Set, SaveConfigs or PinConfigs returned")

// readHeader finds the envelope of the running activity; it is empty when the
// activity was scheduled without the plugin. The header comes from outside, so
// everything in it is checked.
func readHeader(ctx context.Context) (e envelope, err error) {
	payload, ok := interceptor.Header(ctx)[headerKey]
	if !ok {
		return envelope{}, nil
	}
	if err := converter.GetDefaultDataConverter().FromPayload(payload, &e); err != nil {
		return envelope{}, fmt.Errorf("interceptors: the header %q is not readable: %w", headerKey, err)
	}
	if e.Ref != nil && e.Ref.Digest == "" {
		return envelope{}, fmt.Errorf("interceptors: %w", errNotPinned)
	}
	if l := e.Limits; l != nil && (l.Attempts < 0 || min(l.StartToClose, l.ScheduleToClose, l.Initial, l.Maximum) < 0 || !(l.Coefficient >= 0)) {
		return envelope{}, fmt.Errorf("interceptors: the header %q has negative limits", headerKey)
	}
	e.Task = excerpt.Of(e.Task, MaxTaskBytes)
	return e, nil
}

// TaskOf is the task name and the number of the call of a scheduled activity, as in
// events: its type and 0 if its header is none of the plugin's. published is false if the
// call's own policy has its status off, and for the SDK's own activities.
func TaskOf(header *commonpb.Header, activityType string) (task string, call int64, published bool) {
	if strings.HasPrefix(activityType, sessionPrefix) {
		return "", 0, false
	}
	var e envelope
	payload, ok := header.GetFields()[headerKey]
	if !ok || converter.GetDefaultDataConverter().FromPayload(payload, &e) != nil {
		return activityType, 0, true
	}
	return cmp.Or(excerpt.Of(e.Task, MaxTaskBytes), activityType), max(e.Call, 0), e.Policy.Status != Off
}

// Header returns the header with which an activity started outside a workflow,
// a test environment's for example, finds its config, task name and policy. A
// zero ref means no config.
func Header(ref redisstate.Ref, taskID string, p Policy) (*commonpb.Header, error) {
	e := envelope{Task: taskID, Policy: p}
	if ref != (redisstate.Ref{}) {
		e.Ref = &ref
	}
	payload, err := encodeEnvelope(e)
	if err != nil {
		return nil, err
	}
	return &commonpb.Header{Fields: map[string]*commonpb.Payload{headerKey: payload}}, nil
}
