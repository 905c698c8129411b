//go:build integration

package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// script is what the attempts of one activity do, by the number of the user's
// attempt; the last word goes for all that follow. See scripted.
type script struct {
	Words    []string
	Attempts int32
	Types    []string // NonRetryableErrorTypes
	Start    time.Duration
	Whole    time.Duration
	Beat     time.Duration
	Away     []int // entries (from 0: before the first) after which Redis goes away
}

// entry is what one attempt of user code saw of itself.
type entry struct {
	Attempt    int32
	Bounded    bool // its context ends within what the host gave it
	Start      time.Duration
	Whole      time.Duration
	Details    string
	DetailsErr string
}

// theater runs scripts on one worker, with or without the plugin.
type theater struct {
	proxy *faultproxy.Proxy // nil: without the plugin
	mu    sync.Mutex
	seen  map[string][]entry // by workflow id
	away  map[string]int     // attempts that found Redis away since it went
	total map[string]int

	begun   int  // attempts, whatever they found
	entered bool // user code, by the last of them
}

func newTheater(proxy *faultproxy.Proxy) *theater {
	return &theater{proxy: proxy, seen: map[string][]entry{}, away: map[string]int{}, total: map[string]int{}}
}

var errPlain = errors.New("a plain error")

// act is the activity of all scripts.
func (th *theater) act(ctx context.Context, s script) (string, error) {
	info := activity.GetInfo(ctx)
	e := entry{Attempt: info.Attempt, Start: info.StartToCloseTimeout, Whole: info.ScheduleToCloseTimeout}
	deadline, ok := ctx.Deadline()
	e.Bounded = ok && time.Until(deadline) <= info.StartToCloseTimeout
	if activity.HasHeartbeatDetails(ctx) {
		var a, b, c string // one more than there are
		if err := activity.GetHeartbeatDetails(ctx, &a, &b, &c); err != nil {
			e.DetailsErr = err.Error()
		}
		e.Details = a + "," + b + c
	}
	th.mu.Lock()
	id := info.WorkflowExecution.ID
	n := len(th.seen[id])
	th.seen[id] = append(th.seen[id], e)
	th.entered = true
	th.mu.Unlock()
	defer th.leave(s, n+1)
	switch word, arg, _ := strings.Cut(s.Words[min(n, len(s.Words)-1)], " "); word {
	case "ok":
		return fmt.Sprintf("done in attempt %d", info.Attempt), nil
	case "plain":
		return "", errPlain
	case "wrapped":
		return "", fmt.Errorf("around it: %w", errPlain)
	case "typed":
		return "", temporal.NewApplicationErrorWithOptions("typed", arg, temporal.ApplicationErrorOptions{Details: []any{"d1", 2}})
	case "delayed":
		return "", temporal.NewApplicationErrorWithOptions("delayed", arg, temporal.ApplicationErrorOptions{NextRetryDelay: 150 * time.Millisecond})
	case "never":
		return "", temporal.NewNonRetryableApplicationError("never again", arg, errPlain, "detail")
	case "panic":
		panic("the user's " + arg)
	case "late": // honours its context
		<-ctx.Done()
		return "", ctx.Err()
	case "deaf": // does not
		select {
		case <-time.After(s.Start + 100*time.Millisecond): // the server gives up a second later
		case <-activity.GetWorkerStopChannel(ctx):
		}
		return "too late", nil
	case "beat": // leaves a detail, then fails
		activity.RecordHeartbeat(ctx, arg, "second")
		return "", errPlain
	case "mute": // beats nothing where it should: the server times it out
		<-ctx.Done()
		return "", ctx.Err()
	}
	return "", temporal.NewNonRetryableApplicationError("no such word", "Script", nil)
}

// leave takes Redis away after the given entry if the script says so.
func (th *theater) leave(s script, entry int) {
	if th.proxy == nil {
		return
	}
	for _, at := range s.Away {
		if at == entry {
			th.proxy.Random(1, faultproxy.Chaos{ResetCommand: 1})
		}
	}
}

// muteFor is the heartbeat time-out of scripts that beat nothing: long for what else
// the server waits for in one attempt, on a machine that is busy with other tests.
const muteFor = 5 * time.Second

// outages is how many attempts find Redis away before it comes back.
const outages = 3

// saw is told what the chain of the plugin returned, and heals Redis.
func (th *theater) saw(id string, err error) {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || app.Type() != interceptors.RedisUnavailable {
		return
	}
	th.mu.Lock()
	defer th.mu.Unlock()
	th.total[id]++
	if th.away[id]++; th.away[id] == outages {
		th.away[id] = 0
		_ = th.proxy.Heal()
	}
}

// audience is an interceptor around the plugin's.
type audience struct {
	interceptor.WorkerInterceptorBase
	th *theater
}

func (a *audience) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &seat{th: a.th}
	in.Next = next
	return in
}

type seat struct {
	interceptor.ActivityInboundInterceptorBase
	th *theater
}

func (s *seat) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	id := activity.GetInfo(ctx).WorkflowExecution.ID
	s.th.mu.Lock()
	s.th.begun++
	s.th.entered = false
	s.th.mu.Unlock()
	result, err := s.Next.ExecuteActivity(ctx, in)
	s.th.saw(id, err)
	return result, err
}

// play is the workflow of all scripts. What it returns is what it saw.
func play(ctx workflow.Context, s script, ref redisstate.Ref) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: s.Start, ScheduleToCloseTimeout: s.Whole, HeartbeatTimeout: s.Beat,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 50 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Minute,
			MaximumAttempts: s.Attempts, NonRetryableErrorTypes: s.Types,
		},
	})
	var result string
	err := workflow.ExecuteActivity(interceptors.WithConfig(ctx, ref), "act", s).Get(ctx, &result)
	return result + shapeOf(err), nil
}

// shapeOf is what a workflow may look at of an error.
func shapeOf(err error) string {
	if err == nil {
		return ""
	}
	var shape []string
	var timeout *temporal.TimeoutError
	var panicked *temporal.PanicError
	var app *temporal.ApplicationError
	switch {
	case errors.As(err, &timeout):
		return "time-out " + timeout.TimeoutType().String()
	case errors.As(err, &panicked):
		return "panic " + panicked.Error()
	case errors.As(err, &app):
		shape = append(shape, "application", app.Type(), app.Message())
		var a string
		var b int
		if app.HasDetails() && app.Details(&a, &b) == nil {
			shape = append(shape, fmt.Sprint(a, b))
		}
		for cause := errors.Unwrap(app); cause != nil; cause = errors.Unwrap(cause) {
			if inner, ok := cause.(*temporal.ApplicationError); ok { //nolint:errorlint // link by link
				shape = append(shape, "caused by", inner.Type(), inner.Message())
			}
		}
	}
	return strings.Join(shape, " | ")
}

// The same scripts end in the same way, and enter user code as often and with
// the same view of itself, on plain Temporal and with the plugin while Redis
// comes and goes: an outage uses none of the user's attempts and time-outs.
func TestTheUsersLimitsHoldThroughOutages(t *testing.T) {
	t.Parallel()
	sec := time.Second
	// Time-outs that are not to come are long, those that are to come too for what else an
	// attempt does on a machine that is busy with other tests.
	cases := map[string]script{
		"success":                                {Words: []string{"ok"}, Attempts: 3, Start: 30 * sec, Away: []int{0}},
		"success with one attempt":               {Words: []string{"ok"}, Attempts: 1, Start: 30 * sec, Away: []int{0}},
		"Compozy's own options":                  {Words: []string{"plain", "ok"}, Attempts: 3, Start: 300 * sec, Whole: 360 * sec, Away: []int{0, 1}},
		"a failure with one attempt":             {Words: []string{"plain"}, Attempts: 1, Start: 30 * sec, Away: []int{0, 1}},
		"three failures":                         {Words: []string{"plain", "wrapped", "typed Mine"}, Attempts: 3, Start: 30 * sec, Away: []int{0, 2}},
		"the last is wrapped":                    {Words: []string{"plain", "plain", "wrapped"}, Attempts: 3, Start: 30 * sec, Away: []int{1, 2}},
		"the last is plain":                      {Words: []string{"plain"}, Attempts: 3, Start: 30 * sec, Away: []int{0, 1, 2}},
		"unlimited":                              {Words: []string{"plain", "plain", "plain", "ok"}, Start: 30 * sec, Away: []int{0, 3}},
		"a delay of the user's own":              {Words: []string{"delayed Mine", "delayed Mine", "ok"}, Attempts: 3, Start: 30 * sec, Away: []int{1}},
		"an error that is never tried again":     {Words: []string{"plain", "never Mine"}, Attempts: 3, Start: 30 * sec, Away: []int{0, 1}},
		"a type that is never tried again":       {Words: []string{"plain", "typed Poison"}, Types: []string{"Poison"}, Start: 30 * sec, Away: []int{1}},
		"a panic, then success":                  {Words: []string{"panic fault", "ok"}, Attempts: 3, Start: 30 * sec, Away: []int{0, 1}},
		"panics":                                 {Words: []string{"panic fault"}, Attempts: 2, Start: 30 * sec, Away: []int{1}},
		"a time-out, then success":               {Words: []string{"late", "ok"}, Attempts: 2, Start: 5 * sec, Away: []int{0, 1}},
		"time-outs":                              {Words: []string{"late"}, Attempts: 2, Start: 5 * sec, Away: []int{1}},
		"time-outs of code that does not listen": {Words: []string{"deaf"}, Attempts: 2, Start: 5 * sec, Away: []int{0}},
		"a time-out is never tried again":        {Words: []string{"late"}, Types: []string{"TemporalTimeout:StartToClose"}, Start: 5 * sec, Away: []int{0}},
		"the whole time is over while it fails":  {Words: []string{"plain", "late"}, Start: 20 * sec, Whole: 20 * sec, Away: []int{0}},
		"the whole time is over while it works":  {Words: []string{"late"}, Whole: 6 * sec, Away: []int{0}},
		"heartbeat details":                      {Words: []string{"beat one", "plain", "beat two", "ok"}, Start: 30 * sec, Beat: 20 * sec, Away: []int{0, 1, 2, 3}},
		"heartbeat details of the last attempt":  {Words: []string{"beat one", "ok"}, Attempts: 2, Start: 30 * sec, Away: []int{1}},
		"heartbeats that do not come":            {Words: []string{"mute", "ok"}, Attempts: 2, Start: 30 * sec, Beat: muteFor, Away: []int{0}},
		"heartbeats that never come":             {Words: []string{"mute"}, Attempts: 2, Start: 30 * sec, Beat: muteFor, Away: []int{0}},
	}
	server := redistest.Start(t)
	plain := newPlainStage(t)
	// Most of their time is waiting; but with all at once the dev server loses answers to
	// polls, also of plain Temporal, and each is an attempt that ends by its time-out.
	const together = 8
	room := make(chan struct{}, together)
	var all sync.WaitGroup
	for name, s := range cases {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			t.Run(name, func(t *testing.T) {
				want := playPlain(t, plain, s)
				p := playPaused(t, server, s)
				if p.result != want.result {
					t.Errorf("the workflow saw %q; plain Temporal gives %q", p.result, want.result)
				}
				if !reflect.DeepEqual(p.entries, want.entries) {
					t.Errorf("user code saw\n%+v\nwhich is on plain Temporal\n%+v", p.entries, want.entries)
				}
				// The last one ends it, and none more has to find that out. (Of those that
				// the server times out, only the next one can say so, without user code.)
				most := len(p.entries) + p.paused
				if p.timedOut && !p.entered {
					most++
				}
				if p.begun > most {
					t.Errorf("there were %d attempts; want %d of the user's and %d that found Redis away; timed out by the server: %t",
						p.begun, len(p.entries), p.paused, p.timedOut)
				}
				if least := outages * len(s.Away); p.paused < least && !ends(s) {
					t.Errorf("%d attempts found Redis away; want %d at least", p.paused, least)
				}
			})
		})
	}
	all.Wait()
}

// ends tells whether the script's last outage comes after its last attempt.
func ends(s script) bool {
	return s.Attempts > 0 && s.Away[len(s.Away)-1] >= int(s.Attempts)
}

// newPlainStage is a client without the plugin.
func newPlainStage(t *testing.T) *stage {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: temporalAddr, Logger: quiet, ConnectionOptions: devserver.Connection()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &stage{client: c}
}

// performance is what came of one script.
type performance struct {
	result        string
	entries       []entry
	begun, paused int  // attempts that began, attempts that found Redis away
	timedOut      bool // by the server: the attempt before the last one
	entered       bool // user code, by the last one
}

func playPlain(t *testing.T, plain *stage, s script) performance {
	t.Helper()
	st := &stage{client: plain.client, queue: newID()}
	return perform(t, st, newTheater(nil), s, redisstate.Ref{ID: "c", Digest: "d"})
}

func playPaused(t *testing.T, server *redistest.Server, s script) performance {
	t.Helper()
	proxy := faultproxy.Start(t, server.Addr())
	th := newTheater(proxy)
	st := newStage(t, "redis://"+proxy.Addr(), func(o *worker.Options) {
		o.Redis.NearCacheBytes, o.Redis.MaxRetries = -1, -1
		o.RetryDelay = 20 * time.Millisecond
		o.Pause.HoldFor = 20 * time.Millisecond
		o.Logger = slog.New(slog.DiscardHandler)
	})
	refs := st.save(t.Context(), t, redisstate.Entry{ID: "c", Value: stepConfig{Text: "x"}})
	th.leave(s, 0)
	p := perform(t, st, th, s, refs[0])
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	return p
}

func perform(t *testing.T, st *stage, th *theater, s script, ref redisstate.Ref) performance {
	t.Helper()
	w := newWorker(st.client, st.queue, sdkworker.Options{
		Interceptors:                     []interceptor.WorkerInterceptor{&audience{th: th}},
		MaxConcurrentActivityTaskPollers: 2, MaxConcurrentWorkflowTaskPollers: 2, // there are many workers
	})
	w.RegisterWorkflow(play)
	w.RegisterActivityWithOptions(th.act, activity.RegisterOptions{Name: "act"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	run := st.start(bounded(t), t, play, s, ref)
	var p performance
	if err := run.Get(bounded(t), &p.result); err != nil {
		t.Fatal(err)
	}
	p.timedOut = timedOut(t, st, run)
	th.mu.Lock()
	defer th.mu.Unlock()
	p.entries, p.begun, p.paused, p.entered = th.seen[run.GetID()], th.begun, th.total[run.GetID()], th.entered
	return p
}

// timedOut tells whether the server timed out the attempt before the last one of the
// run's activity: the history keeps what it failed with.
func timedOut(t *testing.T, st *stage, run client.WorkflowRun) bool {
	t.Helper()
	events := st.client.GetWorkflowHistory(bounded(t), run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if started := event.GetActivityTaskStartedEventAttributes(); started != nil {
			return started.GetLastFailure().GetTimeoutFailureInfo() != nil
		}
	}
	return false
}
