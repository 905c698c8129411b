package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/loopback"
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

	t.Run("holds no lease past its deadline", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{LockTTL: 24 * time.Hour}})
		critical := func(ctx context.Context) (bool, error) {
			lease, ok := locking.FromContext(ctx)
			deadline, bounded := ctx.Deadline()
			return ok && bounded && !lease.Deadline().After(deadline), nil
		}
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
		result, err := env.ExecuteActivity(critical)
		if err != nil {
			t.Fatal(err)
		}
		var ok bool
		if err := result.Get(&ok); err != nil || !ok {
			t.Errorf("the lease goes on after the attempt's deadline (%v)", err)
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

	t.Run("locks what its key function names, and all of it", func(t *testing.T) {
		t.Parallel()
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{
			LockKeys: map[string]func(activity.Info) ([]string, error){
				"accounts": func(activity.Info) ([]string, error) { return []string{"b", "a", "b"}, nil },
			},
		}})
		critical := func(ctx context.Context) (names []string, err error) {
			for _, lease := range locking.AllFromContext(ctx) {
				names = append(names, lease.Resource())
			}
			locks, err := env.Plugin().Locks(ctx)
			if err != nil {
				return nil, err
			}
			for _, name := range []string{"a", "b"} {
				if _, err := locks.Acquire(context.WithoutCancel(t.Context()), name, locking.WithWait(0)); !errors.Is(err, locking.ErrNotAcquired) {
					return nil, fmt.Errorf("%s is not held: %w", name, err)
				}
				if _, err := locks.Acquire(ctx, name); !errors.Is(err, locking.ErrReentrant) {
					return nil, fmt.Errorf("%s again gives %w", name, err)
				}
			}
			return names, nil
		}
		env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
		env.SetCall(redisstate.Ref{}, "", interceptors.Policy{Lock: interceptors.On, LockKey: "accounts"})
		result, err := env.ExecuteActivity(critical)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		if err := result.Get(&names); err != nil || !slices.Equal(names, []string{"b", "a", "b"}) {
			t.Errorf("its leases are %v, %v", names, err)
		}
		locks, err := env.Plugin().Locks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leases, err := locking.AcquireAll(t.Context(), locks, []string{"a", "b"}, locking.WithWait(0))
		if err != nil {
			t.Fatalf("they are still held: %v", err)
		}
		for _, lease := range leases {
			if err := lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("needs a key function that is there and names something", func(t *testing.T) {
		t.Parallel()
		for key, want := range map[string]struct{ typ, says string }{
			"accounts": {interceptors.PolicyInvalid, "names nothing"}, "nameless": {interceptors.PolicyInvalid, "empty"},
			"others": {interceptors.LockKeyUnknown, "no such function"}, // another worker may have it
		} {
			env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{
				LockKeys: map[string]func(activity.Info) ([]string, error){
					"accounts": func(activity.Info) ([]string, error) { return nil, nil },
					"nameless": func(activity.Info) ([]string, error) { return []string{""}, nil },
				},
			}})
			critical := func(context.Context) error { return nil }
			env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
			env.SetCall(redisstate.Ref{}, "", interceptors.Policy{Lock: interceptors.On, LockKey: key})
			_, err := env.ExecuteActivity(critical)
			if app := applicationError(t, err); app.Type() != want.typ || !strings.Contains(app.Error(), want.says) ||
				app.NonRetryable() != (want.typ == interceptors.PolicyInvalid) {
				t.Errorf("%s: error is %v", key, app)
			}
		}
	})

	// The lease ends by the loss of its renewals; what the activity did stands if
	// nobody else was granted it meanwhile.
	t.Run("keeps its result after a loss only if nobody was granted the lease in between", func(t *testing.T) {
		t.Parallel()
		for name, between := range map[string]bool{"nobody": false, "somebody": true} {
			url := "embedded://" + uuid.NewString()
			env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{Redis: redisstate.Options{URL: url}}})
			critical := func(ctx context.Context) (string, error) {
				lease, _ := locking.FromContext(ctx)
				locks, err := env.Plugin().Locks(ctx)
				if err != nil {
					return "", err
				}
				deleteLocks(t, url)
				if err := lease.Renew(ctx); !errors.Is(err, locking.ErrNotHeld) {
					return "", fmt.Errorf("renewed: %w", err)
				}
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), locking.ErrLost) {
					return "", context.Cause(ctx)
				}
				if between {
					other, err := locks.Acquire(context.WithoutCancel(t.Context()), lease.Resource())
					if err != nil {
						return "", err
					}
					if err := other.Release(t.Context()); err != nil {
						return "", err
					}
				}
				return "done", nil
			}
			env.RegisterActivityWithOptions(critical, activity.RegisterOptions{Name: "critical"})
			env.SetCall(redisstate.Ref{}, "", interceptors.Critical)
			result, err := env.ExecuteActivity(critical)
			switch {
			case !between && err != nil:
				t.Errorf("%s: error is %v", name, err)
			case !between:
				var text string
				if err := result.Get(&text); err != nil || text != "done" {
					t.Errorf("%s: result is %q, %v", name, text, err)
				}
			default:
				if app := applicationError(t, err); app.Type() != interceptors.LeaseLost {
					t.Errorf("%s: error is %v", name, app)
				}
			}
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

// deleteLocks takes the locks out of an embedded Redis, as if they had expired there.
func deleteLocks(t *testing.T, url string) {
	t.Helper()
	conn, err := redisstate.Connect(t.Context(), redisstate.Options{URL: url, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	names, err := conn.Client().Keys(t.Context(), "*:lock:{*").Result()
	if err != nil || len(names) == 0 {
		t.Fatalf("the locks are %v, %v", names, err)
	}
	if err := conn.Client().Del(t.Context(), names...).Err(); err != nil {
		t.Fatal(err)
	}
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	port, err := loopback.Port()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loopback.Release(port) })
	return loopback.Address(port)
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
