package worker

import (
	"context"
	"fmt"
	"slices"

	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// gatePolling puts the slot gate around the worker's activity slots where the
// host asked for it.
func (p *Plugin) gatePolling(taskQueue string, o *sdkworker.Options) error {
	if !slices.Contains(p.options.GatedTaskQueues, taskQueue) || o.LocalActivityWorkerOnly {
		return nil
	}
	if o.Tuner == nil && o.MaxConcurrentWorkflowTaskExecutionSize == 1 {
		return nil // the SDK refuses this, but would not see it behind a tuner
	}
	tel, err := telemetry.New(telemetry.Config{Logger: p.options.Logger, Registerer: p.options.Registerer})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	tuner, err := ownTuner(o)
	if err != nil {
		return err
	}
	g := &gate{taskQueue: taskQueue, log: tel.Log, waiting: tel.Metrics.PausedPolls, source: p.available}
	o.Tuner = gateTuner(tuner, g)
	tel.Log.Info("the worker polls for activities only while Redis answers (Options.GatedTaskQueues)",
		"op", "gate", "task_queue", taskQueue)
	return nil
}

// ownTuner returns the host's tuner, else the one that the SDK would make of the
// host's numbers; those are cleared then, since the SDK takes one or the other.
// Numbers beside a tuner are left to the SDK, which refuses them.
func ownTuner(o *sdkworker.Options) (sdkworker.WorkerTuner, error) {
	if o.Tuner != nil {
		return o.Tuner, nil
	}
	tuner, err := sdkworker.NewFixedSizeTuner(sdkworker.FixedSizeTunerOptions{
		NumWorkflowSlots:      o.MaxConcurrentWorkflowTaskExecutionSize,
		NumActivitySlots:      o.MaxConcurrentActivityExecutionSize,
		NumLocalActivitySlots: o.MaxConcurrentLocalActivityExecutionSize,
		NumNexusSlots:         o.MaxConcurrentNexusTaskExecutionSize,
	})
	if err != nil {
		return nil, fmt.Errorf("worker: slots: %w", err)
	}
	o.MaxConcurrentWorkflowTaskExecutionSize = 0
	o.MaxConcurrentActivityExecutionSize = 0
	o.MaxConcurrentLocalActivityExecutionSize = 0
	o.MaxConcurrentNexusTaskExecutionSize = 0
	return tuner, nil
}

// gatedTuner is another tuner whose activity slots go through a gate. Those of
// sessions, local activities, workflow and nexus tasks are the other's.
type gatedTuner struct {
	sdkworker.WorkerTuner

	activities sdkworker.SlotSupplier
}

func gateTuner(tuner sdkworker.WorkerTuner, g *gate) sdkworker.WorkerTuner {
	return gatedTuner{tuner, gatedSlots{tuner.GetActivityTaskSlotSupplier(), g}}
}

func (t gatedTuner) GetActivityTaskSlotSupplier() sdkworker.SlotSupplier { return t.activities }

// gatedSlots hands out the slots of another supplier while its gate is open.
type gatedSlots struct {
	sdkworker.SlotSupplier

	gate *gate
}

// ReserveSlot takes a slot and then waits for the gate, because the gate may
// close while it waits for the slot. It returns the bare error of ctx: after
// any other than context.Canceled the SDK sleeps for a second.
func (s gatedSlots) ReserveSlot(ctx context.Context, info sdkworker.SlotReservationInfo) (*sdkworker.SlotPermit, error) {
	permit, err := s.SlotSupplier.ReserveSlot(ctx, info)
	if err != nil || permit == nil {
		return nil, err
	}
	if err := s.gate.wait(ctx); err != nil {
		s.ReleaseSlot(giveBack(sdkworker.SlotReleaseInfo.Reason, info, permit))
		return nil, err
	}
	return permit, nil
}

// TryReserveSlot is asked for activities that come with a workflow task's
// answer (eager ones).
func (s gatedSlots) TryReserveSlot(info sdkworker.SlotReservationInfo) *sdkworker.SlotPermit {
	if s.gate.closed() != nil {
		return nil
	}
	return s.SlotSupplier.TryReserveSlot(info)
}

// unused tells a supplier that a slot which it gave for a reservation comes
// back. R is the SDK's type of the reason, which has no public name: giveBack
// finds it by what the public interface returns.
type unused[R ~int] struct {
	sdkworker.SlotReservationInfo

	permit *sdkworker.SlotPermit
}

func giveBack[R ~int](
	_ func(sdkworker.SlotReleaseInfo) R, info sdkworker.SlotReservationInfo, permit *sdkworker.SlotPermit,
) unused[R] {
	return unused[R]{info, permit}
}

func (u unused[R]) Permit() *sdkworker.SlotPermit { return u.permit }

// Reason is the SDK's SlotReleaseReasonUnused.
func (unused[R]) Reason() R { return 1 }
