package interceptors_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
)

type chargeConfig struct {
	Amount int `json:"amount"`
}

func charge(ctx context.Context) (int, error) {
	config, err := activities.Config[chargeConfig](ctx)
	if err != nil {
		return 0, err
	}
	return config.Amount, nil
}

func applicationError(t *testing.T, err error) *temporal.ApplicationError {
	t.Helper()
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		t.Fatalf("error is %v (%T), want an ApplicationError", err, err)
	}
	return app
}

func TestActivity(t *testing.T) {
	t.Parallel()

	t.Run("finds the config its ref names", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		env.RegisterActivity(charge)
		refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 42}})
		env.SetCall(refs[0], "charge-card", interceptors.Policy{})
		result, err := env.ExecuteActivity(charge)
		if err != nil {
			t.Fatal(err)
		}
		var amount int
		if err := result.Get(&amount); err != nil || amount != 42 {
			t.Errorf("amount is %d, %v; want 42", amount, err)
		}
	})

	t.Run("without a ref has no config and says so", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		env.RegisterActivity(charge)
		_, err := env.ExecuteActivity(charge)
		if err == nil || !strings.Contains(err.Error(), "interceptors.WithConfig") {
			t.Errorf("error is %v; want the remedy", err)
		}
	})

	t.Run("whose policy asks for a config and whose call has none fails for good", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		env.RegisterActivity(charge)
		env.SetCall(redisstate.Ref{}, "", interceptors.Policy{Config: interceptors.On})
		_, err := env.ExecuteActivity(charge)
		if app := applicationError(t, err); app.Type() != interceptors.PolicyInvalid || !app.NonRetryable() {
			t.Errorf("error is %s, non-retryable %v", app.Type(), app.NonRetryable())
		}
	})

	t.Run("whose config is gone can be tried again", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		env.RegisterActivity(charge)
		refs := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 1}})
		// The near cache of the store that saved it still has the content: ask
		// for another.
		gone := redisstate.Ref{ID: "gone", Digest: refs[0].Digest[:len(refs[0].Digest)-1] + "0"}
		env.SetCall(gone, "", interceptors.Policy{})
		_, err := env.ExecuteActivity(charge)
		if app := applicationError(t, err); app.Type() != interceptors.ConfigNotFound || app.NonRetryable() || app.NextRetryDelay() <= 0 {
			t.Errorf("error is %s, non-retryable %v, delay %v", app.Type(), app.NonRetryable(), app.NextRetryDelay())
		}
	})
}

func TestCriticalActivity(t *testing.T) {
	t.Parallel()

	t.Run("holds a lease with a fence and a context bound to it", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		critical := func(ctx context.Context) (bool, error) {
			lease, ok := locking.FromContext(ctx)
			if !ok {
				return false, errors.New("no lease in the context")
			}
			fence, err := activities.Fence(ctx)
			return err == nil && fence > 0 && fence == lease.Fence(), err
		}
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
		result, err := env.ExecuteActivity(critical)
		if err != nil {
			t.Fatal(err)
		}
		var ok bool
		if err := result.Get(&ok); err != nil || !ok {
			t.Errorf("fence is not that of the lease (%v)", err)
		}
	})

	t.Run("gives its lease back when it ends", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		var resource string
		critical := func(ctx context.Context) error {
			lease, _ := locking.FromContext(ctx)
			resource = lease.Resource()
			return nil
		}
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
		if _, err := env.ExecuteActivity(critical); err != nil {
			t.Fatal(err)
		}
		locks, err := env.Plugin().Locks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lease, err := locks.Acquire(t.Context(), resource, locking.WithWait(0))
		if err != nil {
			t.Fatalf("the lock is still held: %v", err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("gives its slot back when another holds the lock", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{
			LockWait: -1, LockKey: func(activity.Info) (string, error) { return "shared", nil },
		}})
		locks, err := env.Plugin().Locks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lease, err := locks.Acquire(t.Context(), "shared")
		if err != nil {
			t.Fatal(err)
		}
		critical := func(context.Context) error { return errors.New("entered") }
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
		_, err = env.ExecuteActivity(critical)
		if app := applicationError(t, err); app.Type() != interceptors.LockContended || app.NonRetryable() || app.NextRetryDelay() <= 0 {
			t.Errorf("error is %v", app)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("may not leave its result pending", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
		critical := func(context.Context) error { return activity.ErrResultPending }
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
		_, err := env.ExecuteActivity(critical)
		if app := applicationError(t, err); app.Type() != interceptors.PolicyInvalid || !app.NonRetryable() {
			t.Errorf("error is %v", app)
		}
	})

	t.Run("may not be local", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{DefaultPolicy: interceptors.Critical}})
		_, err := env.ExecuteLocalActivity(func(context.Context) error { return nil })
		if app := applicationError(t, err); app.Type() != interceptors.PolicyInvalid || !strings.Contains(app.Error(), "regular activity") {
			t.Errorf("error is %v", app)
		}
	})
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestOutageIsARetryableErrorWithADelay(t *testing.T) {
	t.Parallel()
	env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{
		Redis:        redisstate.Options{URL: "redis://" + closedPort(t)},
		RetryDelay:   20 * time.Millisecond,
		FlushTimeout: 10 * time.Millisecond,
	}})
	env.RegisterActivity(charge)
	ref := redisstate.Ref{ID: "charge", Digest: redisstate.Digest("sha256:" + strings.Repeat("0", 64))}
	cases := map[string]interceptors.Policy{
		"for a config": {},
		"for a lock":   {Lock: interceptors.On, Config: interceptors.Off},
	}
	for name, policy := range cases {
		t.Run(name, func(t *testing.T) {
			env.SetCall(ref, "", policy)
			_, err := env.ExecuteActivity(charge)
			app := applicationError(t, err)
			if app.Type() != interceptors.RedisUnavailable || app.NonRetryable() || app.NextRetryDelay() <= 0 ||
				app.Category() != temporal.ApplicationErrorCategoryBenign {
				t.Errorf("error is %v: type %s, delay %v", err, app.Type(), app.NextRetryDelay())
			}
		})
	}
	t.Run("unless the policy leaves it to the activity", func(t *testing.T) {
		env.SetCall(ref, "", interceptors.Policy{Pause: interceptors.Off})
		_, err := env.ExecuteActivity(charge)
		if app := applicationError(t, err); app.Type() == interceptors.RedisUnavailable {
			t.Errorf("error is %v", err)
		}
	})
}
