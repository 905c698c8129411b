//go:build integration

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/worker"
)

func resuming(ctx workflow.Context) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second,
		HeartbeatTimeout:    10 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 3 * time.Second, BackoffCoefficient: 1},
	})
	var page string
	err := workflow.ExecuteActivity(interceptors.WithPolicy(ctx, interceptors.Critical), "pages").Get(ctx, &page)
	return page, err
}

// pages notes where it is in its first attempt and goes on from there.
func pages(ctx context.Context) (string, error) {
	if activity.GetInfo(ctx).Attempt == 1 {
		activity.RecordHeartbeat(ctx, "page 7")
		return "", errors.New("interrupted")
	}
	var page string
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &page); err != nil {
			return "", err
		}
	}
	return page, nil
}

// An attempt that waits for its lock heartbeats, and the server keeps only the
// last heartbeat's details: they must be those of the user's last attempt.
func TestWaitingForALockKeepsTheUsersHeartbeatDetails(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newStage(t, redistest.Start(t).URL(), func(o *worker.Options) { o.LockWait = 300 * time.Millisecond })
	s.work(t, func(r sdkworker.Registry) {
		r.RegisterWorkflow(resuming)
		r.RegisterActivityWithOptions(pages, activity.RegisterOptions{Name: "pages"})
	})
	id := newID()
	hub, err := s.plugin.Subscriber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := hub.Subscribe(ctx, id, notifier.FromStart())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	until := func(what string, accept func(notifier.Event) bool) {
		t.Helper()
		for ev := range sub.Events() {
			if accept(ev) {
				return
			}
		}
		t.Fatalf("the subscription ended before %s: %v", what, sub.Err())
	}

	run := s.startAs(ctx, t, id, resuming)
	until("attempt 1 ended", func(ev notifier.Event) bool { return ev.Attempt == 1 && ev.Status == notifier.StatusFailed })
	locks, err := s.plugin.Locks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := locks.Acquire(ctx, "default/"+id, locking.WithWait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	waiting := 0 // WAITING comes when the wait begins and when it is given up
	until("an attempt waited in vain", func(ev notifier.Event) bool {
		if ev.Attempt >= 2 && ev.Status == notifier.StatusWaiting {
			waiting++
		}
		return waiting == 2
	})
	if err := lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
	var page string
	if err := run.Get(ctx, &page); err != nil || page != "page 7" {
		t.Errorf("the attempt after the wait goes on from %q, %v; want page 7", page, err)
	}
}
