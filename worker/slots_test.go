package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/worker"
)

// sizes are the slots of a tuner: workflow, activity, local activity, nexus,
// session activity.
type sizes [5]int

func sizesOf(t sdkworker.WorkerTuner) sizes {
	return sizes{
		t.GetWorkflowTaskSlotSupplier().MaxSlots(), t.GetActivityTaskSlotSupplier().MaxSlots(), t.GetLocalActivitySlotSupplier().MaxSlots(),
		t.GetNexusSlotSupplier().MaxSlots(), t.GetSessionActivitySlotSupplier().MaxSlots(),
	}
}

func slots(t *testing.T, n int) sdkworker.SlotSupplier {
	t.Helper()
	s, err := sdkworker.NewFixedSizeSlotSupplier(n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compositeTuner(t *testing.T) sdkworker.WorkerTuner {
	t.Helper()
	tuner, err := sdkworker.NewCompositeTuner(sdkworker.CompositeTunerOptions{
		WorkflowSlotSupplier: slots(t, 11), ActivitySlotSupplier: slots(t, 12), LocalActivitySlotSupplier: slots(t, 13),
		NexusSlotSupplier: slots(t, 14), SessionActivitySlotSupplier: slots(t, 15),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tuner
}

// lastPlugin comes after the plugin and sees what it left.
type lastPlugin struct {
	sdkworker.PluginBase

	saw sdkworker.Options
}

func (*lastPlugin) Name() string { return "last" }

func (p *lastPlugin) ConfigureWorker(_ context.Context, o sdkworker.PluginConfigureWorkerOptions) error {
	p.saw = *o.WorkerOptions
	return nil
}

// newWorker makes a worker on a client that never dials and returns the options
// as the plugin left them and what worker.New panicked with.
func newWorker(t *testing.T, plugin *worker.Plugin, given sdkworker.Options) (left sdkworker.Options, refused string) {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Plugins: []client.Plugin{plugin}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	after := &lastPlugin{}
	given.Plugins = []sdkworker.Plugin{plugin, after}
	defer func() {
		left = after.saw
		if p := recover(); p != nil {
			refused = fmt.Sprint(p)
		}
	}()
	sdkworker.New(c, "gated", given)
	return left, ""
}

func TestGatedTaskQueuesKeepTheSlotsThatTheHostAskedFor(t *testing.T) {
	t.Parallel()
	numbers := sdkworker.Options{
		MaxConcurrentWorkflowTaskExecutionSize: 2, MaxConcurrentActivityExecutionSize: 3,
		MaxConcurrentLocalActivityExecutionSize: 4, MaxConcurrentNexusTaskExecutionSize: 5,
	}
	cases := map[string]struct {
		given sdkworker.Options
		want  sizes
	}{
		"the SDK's where it set none":   {want: sizes{1000, 1000, 1000, 1000, 1000}},
		"those that it set as numbers":  {given: numbers, want: sizes{2, 3, 4, 5, 3}},
		"the SDK's for negative ones":   {given: sdkworker.Options{MaxConcurrentActivityExecutionSize: -1}, want: sizes{1000, 1000, 1000, 1000, 1000}},
		"those of a tuner of its own":   {given: sdkworker.Options{Tuner: compositeTuner(t)}, want: sizes{11, 12, 13, 14, 15}},
		"with a session worker as well": {given: sdkworker.Options{EnableSessionWorker: true}, want: sizes{1000, 1000, 1000, 1000, 1000}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			o := testOptions(t)
			o.GatedTaskQueues, o.Logger = []string{"gated"}, slog.New(slog.NewTextHandler(&log, nil))
			left, refused := newWorker(t, newPlugin(t, o), c.given)
			if refused != "" {
				t.Fatal(refused)
			}
			if left.Tuner == nil || sizesOf(left.Tuner) != c.want {
				t.Fatalf("the tuner is %v, want sizes %v", left.Tuner, c.want)
			}
			if left.Tuner.GetActivityTaskSlotSupplier() == left.Tuner.GetSessionActivitySlotSupplier() {
				t.Error("sessions are gated")
			}
			if own := c.given.Tuner; own != nil && (left.Tuner.GetWorkflowTaskSlotSupplier() != own.GetWorkflowTaskSlotSupplier() ||
				left.Tuner.GetLocalActivitySlotSupplier() != own.GetLocalActivitySlotSupplier() ||
				left.Tuner.GetNexusSlotSupplier() != own.GetNexusSlotSupplier() ||
				left.Tuner.GetSessionActivitySlotSupplier() != own.GetSessionActivitySlotSupplier() ||
				left.Tuner.GetActivityTaskSlotSupplier() == own.GetActivityTaskSlotSupplier()) {
				t.Error("other slots than those of activities were replaced, or those were not")
			}
			if told := log.count("GatedTaskQueues"); told != 1 || log.count("task_queue=gated") < 1 {
				t.Errorf("it told %d times that the gate is on", told)
			}
		})
	}
}

func TestGatedTaskQueuesLeaveAlone(t *testing.T) {
	t.Parallel()
	withoutActivities, err := sdkworker.NewCompositeTuner(sdkworker.CompositeTunerOptions{WorkflowSlotSupplier: slots(t, 3), LocalActivitySlotSupplier: slots(t, 3)})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		queue   string // of the plugin's option
		given   sdkworker.Options
		refused string // by the SDK, with its own words
	}{
		"other task queues":                {queue: "other"},
		"workers of local activities only": {queue: "gated", given: sdkworker.Options{LocalActivityWorkerOnly: true}},
		"a tuner without activity slots": {
			queue: "gated", given: sdkworker.Options{LocalActivityWorkerOnly: true, Tuner: withoutActivities},
		},
		"numbers beside a tuner": {
			queue: "gated", given: sdkworker.Options{Tuner: compositeTuner(t), MaxConcurrentActivityExecutionSize: 3}, refused: "with Tuner",
		},
		"one workflow task at a time": {
			queue: "gated", given: sdkworker.Options{MaxConcurrentWorkflowTaskExecutionSize: 1}, refused: "MaxConcurrentWorkflowTaskExecutionSize to 1",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			o.GatedTaskQueues = []string{c.queue}
			left, refused := newWorker(t, newPlugin(t, o), c.given)
			if c.refused == "" && refused != "" || !strings.Contains(refused, c.refused) {
				t.Fatalf("worker.New said %q, want %q", refused, c.refused)
			}
			if c.refused == "" && left.Tuner != c.given.Tuner {
				t.Errorf("the tuner is %v", left.Tuner)
			}
			if left.MaxConcurrentActivityExecutionSize != c.given.MaxConcurrentActivityExecutionSize ||
				left.MaxConcurrentWorkflowTaskExecutionSize != c.given.MaxConcurrentWorkflowTaskExecutionSize {
				t.Error("the host's numbers were changed")
			}
		})
	}
}
