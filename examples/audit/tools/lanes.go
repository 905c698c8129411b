package tools

import (
	"context"
	"runtime"
)

// lanes bound how much is computed at a time.
type lanes chan struct{}

// parsing leaves a processor to the rest of the process. With as many inspections under
// way as there are processors, each step of an event on its way to the screen waited
// until one of them had computed for 10 ms.
var parsing = make(lanes, max(runtime.GOMAXPROCS(0)-1, 1))

// within computes as soon as there is a lane. It gives up when ctx ends before.
func (l lanes) within(ctx context.Context, compute func() error) error {
	select {
	case l <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l }()
	runtime.Gosched() // who gets a lane from another would go before all who wait for the processor
	return compute()
}
