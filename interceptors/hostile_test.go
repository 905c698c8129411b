package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	sdktestsuite "go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/activities"
	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/testsuite"
	"github.com/compozy/temporal-redis/worker"
)

// onServer are options on a miniredis whose keys the test can reach.
func onServer(t *testing.T) (*miniredis.Miniredis, testsuite.Options) {
	t.Helper()
	server := miniredis.RunT(t)
	return server, testsuite.Options{Plugin: worker.Options{
		Redis:        redisstate.Options{URL: "redis://" + server.Addr(), NearCacheBytes: -1},
		FlushTimeout: 100 * time.Millisecond,
	}}
}

// keyOf is the key whose name ends in suffix.
func keyOf(t *testing.T, server *miniredis.Miniredis, suffix string) string {
	t.Helper()
	for _, key := range server.Keys() {
		if strings.HasSuffix(key, suffix) {
			return key
		}
	}
	t.Fatalf("no key ends in %s: %v", suffix, server.Keys())
	return ""
}

// attempts is a workflow of one activity, "act" of task "t".
func attempts(n int32, p interceptors.Policy) func(workflow.Context) error {
	return func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute,
			RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: n, InitialInterval: time.Millisecond},
		})
		return workflow.ExecuteActivity(interceptors.WithPolicy(interceptors.WithTask(ctx, "t"), p), "act").Get(ctx, nil)
	}
}

func TestHowAnAttemptEndsIsToldAsItWas(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		activity func(context.Context) error
		policy   interceptors.Policy
		want     string // of the first attempt's end
	}{
		"a context of the user's own is no cancellation": {
			activity: func(ctx context.Context) error {
				own, cancel := context.WithCancel(ctx)
				cancel()
				return fmt.Errorf("sub-request: %w", own.Err())
			},
			want: "t FAILED attempt=1 final=false",
		},
		"a panic is a failure": {
			activity: func(context.Context) error { panic("boom") },
			want:     "t FAILED attempt=1 final=false",
		},
		"an error of bytes that are no text is a failure": {
			activity: func(context.Context) error { return errors.New("tool said \xff\xfe") },
			want:     "t FAILED attempt=1 final=false",
		},
		"an outage pauses": {
			activity: func(context.Context) error { return fmt.Errorf("x: %w", redisstate.ErrUnavailable) },
			want:     "t PAUSED attempt=1 final=false",
		},
		"an outage that the policy leaves to the activity is a failure": {
			activity: func(context.Context) error { return fmt.Errorf("x: %w", redisstate.ErrUnavailable) },
			policy:   interceptors.Policy{Pause: interceptors.Off},
			want:     "t FAILED attempt=1 final=false",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
			env.RegisterActivityWithOptions(c.activity, activity.RegisterOptions{Name: "act"})
			env.ExecuteWorkflow(attempts(1, c.policy))
			lines := told(env.Events(t.Context(), workflowID, ended))
			if !slices.Contains(lines, c.want) || !slices.Contains(lines, "t FAILED attempt=0 final=true") {
				t.Errorf("events %q lack %q or the final failure", lines, c.want)
			}
		})
	}
}

func TestLostLease(t *testing.T) {
	t.Parallel()
	cases := map[string]func(ctx context.Context, env *testsuite.WorkflowEnvironment, flush func()) error{
		"is no cancellation": func(ctx context.Context, _ *testsuite.WorkflowEnvironment, flush func()) error {
			flush()
			<-ctx.Done()
			return ctx.Err()
		},
		"is seen at the release, if nothing noticed before": func(ctx context.Context, env *testsuite.WorkflowEnvironment, flush func()) error {
			flush()
			lease, _ := locking.FromContext(ctx)
			locks, err := env.Plugin().Locks(ctx)
			if err != nil {
				return err
			}
			other, err := locks.Acquire(context.WithoutCancel(t.Context()), lease.Resource()) // its own would be ErrReentrant
			if err != nil {
				return err
			}
			return other.Release(ctx)
		},
	}
	for name, act := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, o := onServer(t)
			o.Plugin.LockTTL, o.Plugin.LockRenewEvery = time.Second, 300*time.Millisecond
			env := testsuite.NewWorkflowEnvironment(t, o)
			env.RegisterActivityWithOptions(func(ctx context.Context) error {
				return act(ctx, env, func() {
					lease, _ := locking.FromContext(ctx)
					server.Del(keyOf(t, server, "lock:{"+strings.ReplaceAll(lease.Resource(), "/", "%2F")+"}"))
				})
			}, activity.RegisterOptions{Name: "act"})
			env.ExecuteWorkflow(attempts(1, interceptors.Critical))
			app := applicationError(t, env.GetWorkflowError())
			if app.Type() != interceptors.LeaseLost {
				t.Errorf("the workflow ended with %v, want LeaseLost", env.GetWorkflowError())
			}
			if lines := told(env.Events(t.Context(), workflowID, ended)); !slices.Contains(lines, "t FAILED attempt=1 final=false") {
				t.Errorf("events %q", lines)
			}
		})
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lockHost is a host of locks only, without a worker's stop.
type lockHost struct{ locks locking.LockManager }

func (h lockHost) Enter() (interceptors.Resources, func(), error) {
	return interceptors.Resources{Locks: h.locks}, func() {}, nil
}

func (h lockHost) Publisher() notifier.Publisher { return nil }

// Redis goes away while a critical activity ends: its result must not wait for
// the release until the server times the attempt out.
func TestAResultDoesNotWaitForARelease(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	registry := prometheus.NewRegistry()
	locks, err := locking.New(client, locking.Options{
		TTL: 3 * time.Second, RenewEvery: time.Second, // a release is tried for a TTL
		Logger: slog.New(slog.DiscardHandler), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{} // "lock not released" comes when the release has given up
	inbound, err := interceptors.NewWorker(lockHost{locks}, interceptors.Options{
		DefaultPolicy: interceptors.Critical, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	var suite sdktestsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{inbound}})
	env.RegisterActivityWithOptions(func(context.Context) error {
		server.Close()
		return nil
	}, activity.RegisterOptions{Name: "act"})
	if _, err := env.ExecuteActivity("act"); err != nil {
		t.Fatal(err)
	}
	early := strings.Contains(log.String(), "lock not released")
	if err := locks.Close(t.Context()); err != nil { // waits for the release
		t.Error(err)
	}
	if early {
		t.Error("the result waited for the release")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

func TestHostileCalls(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		ref       func(redisstate.Ref) redisstate.Ref
		policy    interceptors.Policy
		want      string
		retryable bool
		spoil     func(t *testing.T, server *miniredis.Miniredis)
	}{
		"a ref without a digest reads nothing": {
			ref:  func(r redisstate.Ref) redisstate.Ref { return redisstate.Ref{ID: r.ID} },
			want: interceptors.ConfigUnusable,
		},
		"a mode that is none does not take the lock away": {policy: interceptors.Policy{Lock: 77}, want: interceptors.PolicyInvalid},
		"a value of another type fails at once": {
			want: interceptors.ConfigUnusable,
			spoil: func(t *testing.T, server *miniredis.Miniredis) {
				key := keyOf(t, server, "config:charge")
				server.Del(key)
				server.HSet(key, "a", "b")
			},
		},
		"a value of a newer release waits for an upgraded worker": {
			want: interceptors.ConfigTooNew, retryable: true,
			spoil: func(t *testing.T, server *miniredis.Miniredis) {
				key := keyOf(t, server, "config:charge")
				value, err := server.Get(key)
				if err == nil {
					err = server.Set(key, "\x09"+value[1:])
				}
				if err != nil {
					t.Fatal(err)
				}
			},
		},
		"a value under a key that this worker lacks waits for one that has it": {
			want: interceptors.ConfigKeyUnknown, retryable: true,
			spoil: func(t *testing.T, server *miniredis.Miniredis) {
				saveEncrypted(t, server, keyOf(t, server, "config:charge"), redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 1}})
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, o := onServer(t)
			env := testsuite.NewActivityEnvironment(t, o)
			env.RegisterActivity(charge)
			ref := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: chargeConfig{Amount: 1}})[0]
			if c.ref != nil {
				ref = c.ref(ref)
			}
			if c.spoil != nil {
				c.spoil(t, server)
			}
			env.SetCall(ref, "", c.policy)
			_, err := env.ExecuteActivity(charge)
			if app := applicationError(t, err); app.Type() != c.want || app.NonRetryable() == c.retryable {
				t.Errorf("error is %s, non-retryable %v: %v", app.Type(), app.NonRetryable(), err)
			}
		})
	}
}

// saveEncrypted puts e at key as a process with keys of its own would.
func saveEncrypted(t *testing.T, server *miniredis.Miniredis, key string, e redisstate.Entry) {
	t.Helper()
	ring, err := redisstate.NewKeyRing(redisstate.EncryptionKey{ID: "2026-03", Key: make([]byte, redisstate.EncryptionKeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	store, err := redisstate.NewStore(client, redisstate.Options{
		Namespace: strings.TrimSuffix(key, ":config:"+e.ID), Keys: ring, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if _, err := store.Set(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// Mistakes that no retry mends come back non-retryable although the user's code
// only passes them on.
func TestMistakesAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	env := testsuite.NewActivityEnvironment(t, testsuite.Options{})
	env.RegisterActivity(charge)
	text := env.SaveConfigs(redisstate.Entry{ID: "charge", Value: "not an object"})[0]
	for want, ref := range map[string]redisstate.Ref{interceptors.ConfigUnusable: text, activities.PluginMisuse: {}} {
		env.SetCall(ref, "", interceptors.Policy{})
		_, err := env.ExecuteActivity(charge)
		if app := applicationError(t, err); app.Type() != want || !app.NonRetryable() {
			t.Errorf("error is %s, non-retryable %v; want %s for good: %v", app.Type(), app.NonRetryable(), want, err)
		}
	}
}

func TestPinConfigsFailsAtOnceOnAValueOfAnotherType(t *testing.T) {
	t.Parallel()
	server, o := onServer(t)
	env := testsuite.NewActivityEnvironment(t, o)
	activities.Register(env)
	env.SaveConfigs(redisstate.Entry{ID: "bad", Value: 1})
	key := keyOf(t, server, "config:bad")
	server.Del(key)
	server.HSet(key, "a", "b")
	_, err := env.ExecuteActivity(activities.PinConfigsName, []string{"bad"})
	if app := applicationError(t, err); !app.NonRetryable() {
		t.Errorf("error is retryable: %v", err)
	}
}

// The SDK's session activities run for as long as their session: a lock of
// theirs would keep out every critical activity of the workflow.
func TestSessionActivitiesOfTheSDKTakeNoLockAndTellNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"internalSessionCreationActivity", "internalSessionCompletionActivity"} {
		env := testsuite.NewActivityEnvironment(t, testsuite.Options{Plugin: worker.Options{DefaultPolicy: interceptors.Critical}})
		locked := true
		env.RegisterActivityWithOptions(func(ctx context.Context) error {
			_, locked = locking.FromContext(ctx)
			return nil
		}, activity.RegisterOptions{Name: name, DisableAlreadyRegisteredCheck: true})
		if _, err := env.ExecuteActivity(name); err != nil {
			t.Fatal(err)
		}
		if locked {
			t.Errorf("%s ran under the lock", name)
		}
	}
}

func TestLongTaskNamesAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	env := testsuite.NewWorkflowEnvironment(t, testsuite.Options{})
	env.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "act"})
	long := strings.Repeat("\u00e4", interceptors.MaxTaskBytes/2) // fills it to the byte
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		for _, name := range []string{"x" + long + "never seen", "bad\xff" + "utf"} {
			if err := workflow.ExecuteActivity(interceptors.WithTask(ctx, name), "act").Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, ev := range env.Events(t.Context(), workflowID, ended) {
		seen[ev.TaskID]++
	}
	first := "x" + long[:interceptors.MaxTaskBytes-2]
	if want := map[string]int{"": 2, first: 4, "bad\ufffdutf": 4}; !maps.Equal(seen, want) {
		t.Errorf("events by task: %v, want %v", seen, want)
	}
}
